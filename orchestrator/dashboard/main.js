// The page's one loop: messages come from the worker and are folded into the model, and once a frame at most the views
// say what the page is. Nothing here knows what a rollout is.

import { Commands } from "./commands.js";
import { dialogOf } from "./dialog.js";
import { h, patch } from "./dom.js";
import { frameOf } from "./frame.js";
import { loginOf, loadLogin, saveLogin, defaultsFrom } from "./login.js";
import { forgetTones } from "./matrix.js";
import { createModel, hear, sweep } from "./model.js";
import { auditView } from "./view_audit.js";
import { deviceView } from "./view_device.js";
import { fleetView } from "./view_fleet.js";
import { rolloutView } from "./view_rollout.js";
import { rolloutsView } from "./view_rollouts.js";
import { startView } from "./view_start.js";

const FRAME_MILLISECONDS = 150;
const FRAME_SHARE = 8; // drawing takes an eighth of the time at most, however large the fleet and slow the machine
const SWEEP_MILLISECONDS = 10_000;
const EXPLAIN_MILLISECONDS = 2000;
const VIEWS = {
  "": rolloutsView,
  rollout: rolloutView,
  fleet: fleetView,
  device: deviceView,
  start: startView,
  audit: auditView,
};

const page = document.getElementById("page");
const worker = new Worker("link_worker.js", { type: "module" });
const published = new Map();
let lastFrameAt = 0;
let frameCost = 0;
let isDue = false;

const app = {
  model: createModel(),
  login: null, // {url, user, password, root}; the password goes to the worker and is forgotten here
  offered: { url: "", root: "fleet/v1" },
  link: { state: "off", since: Date.now(), trouble: "", refused: [], subscribedAt: null, connectedAt: null },
  route: readRoute(),
  shown: null, // the route that was drawn last
  now: Date.now(),
  ui: {}, // what people typed and opened, by view
  dialog: null,
  reply: null,
  explained: new Map(),
  commands: null,
  draw,
  ask,
  hold,
  explain,
  go: (hash) => {
    location.hash = hash;
  },
  open: openLink,
  leave: leaveLink,
};
window.tidegate = app; // for the console and for tests; whatever it can do, the user can do

worker.onmessage = ({ data }) => {
  if (data.type === "messages") {
    for (const each of data.messages) hear(app.model, each, data.at);
    for (const each of app.model.replies.splice(0)) app.commands?.hear(each.verb, each.body);
  } else if (data.type === "published") {
    published.get(data.id)?.(data.error);
    published.delete(data.id);
  } else linkChanged(data);
  draw();
};

function linkChanged({ type, text, isDenied, what, at }) {
  const { link } = app;
  if (type === "connected") {
    Object.assign(link, {
      state: "on",
      since: Date.now(),
      trouble: "",
      refused: [],
      subscribedAt: null,
      connectedAt: at,
    });
  } else if (type === "subscribed") {
    link.subscribedAt = Date.now();
    const { connectedAt } = link;
    setTimeout(() => {
      if (link.connectedAt === connectedAt && link.state === "on") sweep(app.model, connectedAt);
      draw();
    }, SWEEP_MILLISECONDS);
  } else if (type === "refused") link.refused.push(what);
  else if (type === "trouble") {
    link.trouble = text;
    if (isDenied) leaveLink(`the broker refused the user or the password (${text})`);
  } else if (type === "lost" && link.state === "on") Object.assign(link, { state: "lost", since: Date.now() });
}

function openLink(login) {
  const { password, ...kept } = login;
  app.login = kept;
  app.offered = { url: kept.url, root: kept.root, user: kept.user, isLight: kept.isLight };
  app.model = createModel();
  Object.assign(app.link, {
    state: "opening",
    since: Date.now(),
    trouble: "",
    refused: [],
    connectedAt: null,
    subscribedAt: null,
  });
  app.commands = new Commands(kept.user, publish, () => app.model.orchestrator.availability);
  saveLogin(login);
  worker.postMessage({ type: "open", login: { ...kept, password } });
  draw();
}

function leaveLink(trouble = "") {
  worker.postMessage({ type: "close" });
  saveLogin(null);
  app.login = null;
  app.ui = {};
  Object.assign(app.link, { state: "off", since: Date.now(), trouble });
  draw();
}

function publish(topic, payload, retain) {
  const id = `${Date.now()}-${Math.random()}`;
  return new Promise((resolve) => {
    published.set(id, resolve);
    worker.postMessage({ type: "publish", id, topic, payload, retain });
  });
}

/** Send a command and show its answer at the foot of the page; a refusal is returned for who asked. */
async function ask(verb, body, { isQuiet = false } = {}) {
  const answer = await app.commands.ask(verb, body);
  if (!isQuiet) app.reply = { verb, about: body.rollout ?? body.device ?? "", answer, at: Date.now() };
  draw();
  return answer;
}

/** Set or release the brake; returns what went wrong, "" if nothing. */
async function hold(reason) {
  return publish("all/hold", reason === null ? "" : JSON.stringify({ reason, by: app.login.user }), true);
}

/** Return why a rollout or a device is where it is, and ask again when `key` has changed. */
function explain(name, body, key) {
  const known = app.explained.get(name) ?? { key: null, askedAt: 0, data: null, error: null };
  app.explained.set(name, known);
  const isOld = known.key !== key && app.now - known.askedAt > EXPLAIN_MILLISECONDS;
  if (isOld && app.login.user && app.link.subscribedAt && app.model.orchestrator.availability === "online") {
    Object.assign(known, { key, askedAt: app.now });
    app
      .ask("get", body, { isQuiet: true })
      .then(({ data, error }) => Object.assign(known, error ? { error } : { data, error: null }))
      .then(draw);
  }
  return known;
}

function draw() {
  if (isDue) return;
  isDue = true;
  const wait = Math.max(0, lastFrameAt + Math.max(FRAME_MILLISECONDS, FRAME_SHARE * frameCost) - performance.now());
  setTimeout(() => requestAnimationFrame(render), wait);
}

function render() {
  isDue = false;
  lastFrameAt = performance.now();
  app.now = Date.now();
  patch(page, app.login ? [...frameOf(app, viewOf()), dialogOf(app)] : [loginOf(app)]);
  document.body.classList.toggle("stale", app.link.state === "lost" || app.link.state === "opening");
  app.shown = app.route.id ? `${app.route.name}/${app.route.id}` : app.route.name;
  frameCost = performance.now() - lastFrameAt;
}

/** Whatever somebody publishes, one view that cannot show it must not take the page away. */
function viewOf() {
  const view = VIEWS[app.route.name] ?? rolloutsView;
  const device = view === deviceView ? app.route.id : "";
  if (device !== app.ui.watched) {
    if (app.login.isLight) app.model.devices.delete(app.ui.watched); // nobody says any more what becomes of it
    app.ui.watched = device;
    worker.postMessage({ type: "watch", device });
  }
  try {
    return view(app);
  } catch (error) {
    console.error(error);
    return [h("p", { class: "notice bad" }, `This cannot be shown: ${error.message}`)];
  }
}

function readRoute() {
  const [name, id = ""] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  return { name, id };
}

window.addEventListener("hashchange", () => {
  app.route = readRoute();
  window.scrollTo(0, 0);
  draw();
});
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forgetTones);
setInterval(draw, 1000);

app.offered = defaultsFrom(
  location,
  await fetch("config.json")
    .then((answer) => (answer.ok ? answer.json() : {}))
    .catch(() => ({})),
);
const kept = loadLogin();
if (kept) openLink(kept);
else draw();
