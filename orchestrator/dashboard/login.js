// Who looks: the broker's own users. Nothing is kept but in this tab, and only if the user asks for it.

import { h } from "./dom.js";

const KEPT = "tidegate-login";

/** Return what the login offers: what the page's server says, else the usual port of this host. */
export function defaultsFrom({ protocol, hostname }, config) {
  const scheme = protocol === "https:" ? "wss" : "ws";
  const host = hostname.includes(":") && !hostname.startsWith("[") ? `[${hostname}]` : hostname || "localhost";
  return {
    url: typeof config.broker === "string" ? config.broker : `${scheme}://${host}:9001`,
    root: typeof config.topic_root === "string" ? config.topic_root : "fleet/v1",
  };
}

export function loadLogin() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

export function saveLogin(login) {
  try {
    if (login?.keep) sessionStorage.setItem(KEPT, JSON.stringify(login));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // A browser without storage keeps nothing, which is what it was told to.
  }
}

export function loginOf(app) {
  const field = (name, label, attributes, help) =>
    h(
      "div",
      { key: name },
      h(
        "label",
        {},
        h("span", {}, label),
        h("input", {
          name,
          required: name !== "password" && name !== "user",
          autocomplete: "off",
          spellcheck: "false",
          "aria-describedby": help && `help-${name}`,
          ...attributes,
        }),
      ),
      help && h("small", { id: `help-${name}` }, help),
    );
  return h(
    "main",
    { key: "login", class: "login" },
    h("h1", {}, h("img", { src: "icon.svg", alt: "", width: 22, height: 22 }), "tidegate"),
    app.link.trouble && h("p", { class: "notice bad", role: "alert" }, `✖ ${app.link.trouble}`),
    h(
      "form",
      { onsubmit: (event) => submit(event, app) },
      field(
        "user",
        "User",
        { value: app.offered.user ?? "", autocomplete: "username", autofocus: true },
        "Your own user of the broker; the audit names it.",
      ),
      field("password", "Password", { type: "password", autocomplete: "current-password" }),
      field(
        "url",
        "Broker",
        { value: app.offered.url, pattern: "wss?://.+", title: "ws://host:port or wss://host:port" },
        "Its WebSocket: ws:// or wss://",
      ),
      field("root", "Topic root", {
        value: app.offered.root,
        pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]*(/[A-Za-z0-9][A-Za-z0-9_\\-]*)?",
      }),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", name: "light", checked: app.offered.isLight ?? false }),
        h("span", {}, "Leave out devices until one is opened (fleets above some 20,000)"),
      ),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", name: "keep" }),
        h("span", {}, "Remember in this tab until it is closed"),
      ),
      h("button", { class: "primary", type: "submit" }, "Connect"),
    ),
    h(
      "p",
      { class: "hint" },
      "The page talks to the broker alone. What you may see and do is what the broker lets your user see and do.",
    ),
  );
}

function submit(event, app) {
  event.preventDefault();
  const form = new FormData(event.target);
  const value = (name) => String(form.get(name) ?? "").trim();
  app.open({
    url: value("url"),
    user: value("user"),
    password: String(form.get("password") ?? ""),
    root: value("root"),
    isLight: form.has("light"),
    keep: form.has("keep"),
  });
}
