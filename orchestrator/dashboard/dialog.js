// The one dialog: what a command will do, a reason, and for grave ones the name of what it is about, typed by hand.

import { errorText } from "./commands.js";
import { h } from "./dom.js";
import { VERBS } from "./words.js";

/** Ask before a command about a rollout is sent. */
export function askVerb(app, verb, rollout, body = {}) {
  const { effect, grave } = VERBS[verb] ?? { effect: "", grave: false };
  app.dialog = {
    title: `${verb} ${rollout}`,
    text: effect,
    grave,
    typed: grave ? rollout : null,
    wantsReason: true,
    button: verb,
    run: ({ reason }) => app.ask(verb, { rollout, ...body, reason }),
  };
  app.draw();
}

export function dialogOf(app) {
  const asked = app.dialog;
  if (!asked) return false;
  const close = () => {
    app.dialog = null;
    app.draw();
  };
  const isReady = !asked.typed || asked.name === asked.typed;
  return h(
    "dialog",
    {
      key: "dialog",
      "aria-labelledby": "dialog-title",
      oncancel: close,
      hook: (node) => {
        if (!node.open) node.showModal();
      },
    },
    h(
      "form",
      { method: "dialog", onsubmit: (event) => send(event, app, asked) },
      h("h2", { id: "dialog-title" }, asked.title),
      h("p", {}, asked.text),
      asked.wantsReason &&
        h(
          "label",
          {},
          h("span", {}, "Reason, for the audit"),
          h("input", { name: "reason", maxlength: 500, autofocus: true, autocomplete: "off" }),
        ),
      asked.typed &&
        h(
          "label",
          {},
          h("span", {}, "Type ", h("code", {}, asked.typed), " to confirm"),
          h("input", {
            name: "typed",
            autocomplete: "off",
            autocapitalize: "off",
            spellcheck: "false",
            oninput: (event) => {
              asked.name = event.target.value.trim();
              app.draw();
            },
          }),
        ),
      asked.error && h("p", { class: "notice bad", role: "alert" }, `✖ ${errorText(asked.error)}`),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: close }, "Cancel"),
        h(
          "button",
          {
            type: "submit",
            class: asked.grave ? "grave" : "primary",
            disabled: !isReady || asked.isSending || app.link.state !== "on",
          },
          asked.isSending ? "sent, waiting …" : asked.button,
        ),
      ),
    ),
  );
}

async function send(event, app, asked) {
  event.preventDefault();
  if (asked.typed && asked.name !== asked.typed) return;
  const form = new FormData(event.target);
  Object.assign(asked, { isSending: true, error: null });
  app.draw();
  const { error } = await asked.run({ reason: String(form.get("reason") ?? "").trim() });
  asked.isSending = false;
  if (error) asked.error = error;
  else if (app.dialog === asked) app.dialog = null;
  app.draw();
}
