// A page as a value: `h` describes elements, `patch` makes the document like the description and keeps what has not
// changed, so focus, scrolling and what somebody types survive every update. Text is only ever set as text.

/** Describe an element; children that are null or false are left out, all others but elements become text. */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter(isSomething) };
}

const isSomething = (each) => each !== null && each !== undefined && each !== false;

/** Make the children of `parent` what `nodes` describes; those that are null or false are left out. */
export function patch(parent, nodes) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.tideKey !== undefined) keyed.set(node.tideKey, node);
  let cursor = parent.firstChild;
  for (const each of nodes.filter(isSomething)) {
    const found = candidate(each, keyed, cursor);
    const node = found ?? create(each);
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
    update(node, each);
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

function candidate(each, keyed, cursor) {
  if (typeof each !== "object") return cursor?.nodeType === 3 ? cursor : null;
  const key = each.props.key;
  const node = key === undefined ? (cursor?.tideKey === undefined ? cursor : null) : keyed.get(key);
  return node?.localName === each.tag ? node : null;
}

function create(each) {
  if (typeof each !== "object") return document.createTextNode("");
  const node = document.createElement(each.tag);
  node.tideProps = {};
  node.tideKey = each.props.key;
  return node;
}

function update(node, each) {
  if (typeof each !== "object") {
    if (node.data !== String(each)) node.data = String(each);
    return;
  }
  const before = node.tideProps;
  for (const name of Object.keys(before)) if (!(name in each.props)) set(node, name, null, before[name]);
  for (const [name, value] of Object.entries(each.props)) set(node, name, value, before[name]);
  node.tideProps = each.props;
  if (!each.props.leaf) patch(node, each.children);
  each.props.hook?.(node);
}

const OURS = new Set(["key", "hook", "leaf"]);

function set(node, name, value, before) {
  if (OURS.has(name)) return;
  if (name.startsWith("on")) node[name] = value;
  else if (name === "style") restyle(node, value ?? {}, before ?? {});
  else if (name === "value" || name === "checked") {
    if (value !== before) node[name] = value ?? "";
  } else if (value === before) return;
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

function restyle(node, value, before) {
  for (const name of Object.keys(before)) if (!(name in value)) node.style.removeProperty(name);
  for (const [name, text] of Object.entries(value)) if (before[name] !== text) node.style.setProperty(name, text);
}
