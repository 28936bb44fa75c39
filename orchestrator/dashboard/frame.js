// What stands around every view: where one is, how the connection is, the brake, and the last answer.

import { errorText } from "./commands.js";
import { h } from "./dom.js";
import { ago, timeOf } from "./numbers.js";
import { spaced } from "./words.js";

const NOTHING_MILLISECONDS = 5000;
const REPLY_MILLISECONDS = 20_000;
const TABS = [
  ["", "Rollouts"],
  ["fleet", "Fleet"],
  ["start", "Start"],
  ["audit", "Audit"],
];
const HOME = { rollout: "", device: "fleet" };

export function frameOf(app, content) {
  return [
    h(
      "header",
      { key: "header" },
      h(
        "a",
        { class: "brand", href: "#/" },
        h("img", { src: "icon.svg", alt: "", width: 18, height: 18 }),
        h("span", {}, "tidegate"),
      ),
      h(
        "nav",
        { "aria-label": "Views" },
        TABS.map(([name, words]) =>
          h(
            "a",
            {
              key: name,
              href: `#/${name}`,
              "aria-current": (HOME[app.route.name] ?? app.route.name) === name ? "page" : null,
            },
            words,
            name === "" && waitingCount(app.model),
          ),
        ),
      ),
      h(
        "div",
        { class: "right" },
        brakeButton(app),
        linkState(app),
        h(
          "button",
          { class: "quiet user", title: "Log out", onclick: () => app.leave() },
          app.login.user || "nobody",
          h("span", { class: "wide" }, " · log out"),
        ),
      ),
    ),
    h("div", { key: "banners", class: "banners", role: "status" }, banners(app)),
    h(
      "main",
      { key: `view-${app.route.name}-${app.route.id}`, class: `view ${app.route.name || "rollouts"}` },
      content,
    ),
    h("footer", { key: "reply", class: "reply", role: "status", "aria-live": "polite" }, replyOf(app)),
  ];
}

function waitingCount(model) {
  const waiting = [...model.rollouts.values()].filter(
    ({ status }) => status && status.allowed.includes("approve") && !status.paused,
  ).length;
  return waiting > 0 && h("b", { class: "badge", title: "wait for approval" }, ` ${waiting}`);
}

function linkState(app) {
  const [tone, words] = { on: ["good", "● live"], lost: ["bad", "○ lost"], opening: ["wait", "◌ connecting"] }[
    app.link.state
  ] ?? ["calm", "off"];
  return h("span", { class: `link ${tone}`, title: `${app.login.url}, ${app.login.root}` }, words);
}

function brakeButton(app) {
  const isOn = app.model.hold !== null;
  return h(
    "button",
    { class: isOn ? "brake on" : "brake", "aria-pressed": String(isOn), onclick: () => askBrake(app, isOn) },
    isOn ? "■ Brake is on" : "Brake",
  );
}

function askBrake(app, isOn) {
  app.dialog = isOn
    ? {
        title: "Release the brake",
        text: "Devices may activate new versions again, all rollouts go on.",
        grave: true,
        typed: "release",
        button: "Release the brake",
        run: () => pull(app, null),
      }
    : {
        title: "Pull the brake",
        text: "While it is on, no device activates anything, in no rollout. It works without the orchestrator. What is on trial ends its trial.",
        wantsReason: true,
        button: "Pull the brake",
        grave: true,
        run: ({ reason }) => pull(app, reason),
      };
  app.draw();
}

/** The proof is the retained message that comes back; an old broker does not say that it refused. */
async function pull(app, reason) {
  const error = await app.hold(reason);
  if (error) return { error: { code: "not_sent", message: error } };
  for (let tries = 0; tries < 40; tries += 1) {
    if ((app.model.hold !== null) === (reason !== null)) return { data: {} };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    error: {
      code: "not_seen",
      message:
        "it was sent and did not come back: the broker's access list may not let you write all/hold, or not read it",
    },
  };
}

function banners(app) {
  const { link, model, now } = app;
  const found = [];
  const say = (key, tone, ...words) => found.push(h("p", { key, class: `banner ${tone}` }, words));
  if (link.state === "lost")
    say(
      "lost",
      "bad",
      h("b", {}, "✖ Disconnected"),
      ` since ${timeOf(link.since, now)} (${ago(link.since, now)}). Everything below is as it was then. Trying again …`,
    );
  if (link.state === "opening")
    say(
      "opening",
      "wait",
      `◌ Connecting to ${app.login.url} for ${ago(link.since, now)}`,
      link.trouble
        ? `: ${link.trouble}`
        : now - link.since > 5000
          ? "; is the address right, and is the broker running?"
          : "",
    );
  if (model.hold)
    say(
      "hold",
      "brake",
      h("b", {}, "■ Brake is on: no device activates anything."),
      model.hold.reason ? ` “${model.hold.reason}”` : "",
      model.hold.by ? ` by ${model.hold.by}` : "",
      model.hold.since ? ` since ${timeOf(model.hold.since, now)}` : "",
    );
  if (link.state !== "on") return found;
  if (model.orchestrator.availability === "offline")
    say(
      "offline",
      "bad",
      h("b", {}, "✖ The orchestrator is offline:"),
      " nothing is decided and no command is carried out; devices wait. The brake works.",
    );
  if ([...model.rollouts.values()].some(({ status }) => status?.frozen))
    say(
      "frozen",
      "bad",
      h("b", {}, "✖ Frozen:"),
      " so many devices fell silent at once that the orchestrator decides nothing.",
    );
  for (const [worker, presence] of model.evaluators)
    if (presence === "offline") say(`evaluator-${worker}`, "wait", `! Evaluator ${worker} is offline`);
  if (link.refused.length)
    say(
      "refused",
      "wait",
      `! Your user may not read: ${link.refused.join(", ")}. What follows from these is missing here.`,
    );
  else if (link.subscribedAt && now - link.subscribedAt > NOTHING_MILLISECONDS) sayMissing(app, say);
  return found;
}

function sayMissing({ model, login }, say) {
  const heard = (...kinds) => kinds.some((kind) => model.heard[kind]);
  if (!Object.keys(model.heard).length) {
    say(
      "nothing",
      "wait",
      h("b", {}, "? Nothing has arrived."),
      ` Either there is nothing below ${login.root} on this broker, or ${login.user || "nobody"} may not read it: brokers do not say which. Check topic root and access list.`,
    );
  } else if (!heard("orchestrator_availability", "orchestrator_info")) {
    say("nobody", "wait", "? Nothing was heard of an orchestrator: none was ever connected, or you may not read it.");
  }
  if (!login.isLight && heard("status") && heard("reported") && !heard("desired")) {
    say(
      "orders",
      "wait",
      "? Devices report and none seems to have an order: your user may not read device/+/desired. Squares of rollouts below are those of the counts.",
    );
  }
}

function replyOf(app) {
  const { reply } = app;
  if (!reply || app.now - reply.at > REPLY_MILLISECONDS) return [];
  const { data, error } = reply.answer;
  const about = `${reply.verb} ${reply.about}`.trim();
  const where = data?.phase
    ? `: ${spaced(String(data.phase))}${data.wave ? ` at ${data.wave}` : ""}${data.paused ? ", paused" : ""}`
    : "";
  const words = error
    ? `✖ ${about}: ${errorText(error)}`
    : `✔ ${about}${where}${data?.already_applied ? " (it was so already)" : ""}`;
  return [
    h(
      "p",
      { key: reply.at, class: error ? "bad" : "good" },
      words,
      h(
        "button",
        {
          class: "quiet",
          "aria-label": "Close",
          onclick: () => {
            app.reply = null;
            app.draw();
          },
        },
        "×",
      ),
    ),
  ];
}
