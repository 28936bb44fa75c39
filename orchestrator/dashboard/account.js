// How something came where it is: the orchestrator's own account, its evidence, and events as they happen.

import { h } from "./dom.js";
import { timeOf } from "./numbers.js";
import { check, isObject, list } from "./shape.js";
import { checkTable } from "./view_checks.js";
import { spaced } from "./words.js";

/** Ask the orchestrator for its account, again whenever something has changed. */
function explained(app, { id, status, gates }) {
  const key = [status.phase, status.wave, status.paused, [...gates.values()].map((gate) => gate.verdict).join()].join(
    "|",
  );
  return app.explain(`rollout ${id}`, { rollout: id }, key);
}

/** What closed the gate, with its numbers: the last step that something failed in; what was seen after a rollback has no time. */
export function evidenceSection(app, rollout) {
  const { data } = explained(app, rollout);
  const failed = (Array.isArray(data?.why) ? data.why : []).map((step) => ({
    ...step,
    checks: list(step.evidence).filter(isObject).map(check),
  }));
  const last = failed.findLast((step) => step.at && step.checks.some((each) => each.verdict === "fail"));
  if (!last) return h("section", { key: "evidence" });
  return h(
    "section",
    { key: "evidence" },
    h(
      "h2",
      {},
      "What stopped it",
      h("span", { class: "faint" }, ` ${last.at ? timeOf(Date.parse(last.at), app.now) : ""}`),
    ),
    checkTable(last.checks),
  );
}

export function whySection(app, rollout) {
  const { data, error } = explained(app, rollout);
  if (error)
    return h(
      "section",
      { key: "why" },
      h("h2", {}, "How it came here"),
      h("p", { class: "faint" }, `The orchestrator was asked and did not say: ${error.message}`),
    );
  if (!data) return h("section", { key: "why" });
  return h("section", { key: "why" }, h("h2", {}, "How it came here"), steps(app, data));
}

/** The orchestrator's own account, oldest first. */
export function steps(app, data) {
  const why = Array.isArray(data.why) ? data.why : [];
  return [
    h(
      "ol",
      { class: "steps" },
      why.map((step, index) =>
        h(
          "li",
          { key: index },
          h("time", {}, step.at ? timeOf(Date.parse(step.at), app.now) : ""),
          h("span", {}, String(step.text ?? "")),
          step.devices &&
            Object.keys(step.devices).length > 0 &&
            h(
              "span",
              { class: "faint" },
              Object.entries(step.devices)
                .slice(0, 5)
                .map(([id, said]) =>
                  h("span", { key: id, class: "said" }, h("a", { href: `#/device/${id}` }, id), ` ${said}`),
                ),
            ),
        ),
      ),
    ),
    data.awaited?.text &&
      h(
        "p",
        { class: "calm" },
        `◔ ${data.awaited.text}${data.awaited.by ? `, by ${timeOf(Date.parse(data.awaited.by), app.now)}` : ""}`,
        data.awaited.since ? `, since ${timeOf(Date.parse(data.awaited.since), app.now)}` : null,
        data.awaited.help ? h("span", { class: "faint" }, ` ${data.awaited.help}`) : null,
      ),
  ];
}

export function eventsSection(app, rollout) {
  const events = [...rollout.events].reverse();
  return h(
    "section",
    { key: "events" },
    h(
      "h2",
      {},
      "As it happens",
      h("span", { class: "faint" }, ` since ${timeOf(app.link.connectedAt, app.now, { seconds: false })}`),
    ),
    events.length
      ? h(
          "ul",
          { class: "feed" },
          events.map((event, index) => eventRow(app, event, events.length - index)),
        )
      : h("p", { class: "empty" }, "Nothing since this page connected."),
  );
}

const EVENT_TONES = {
  device_failed: "bad",
  halted: "bad",
  rollback: "back",
  rollback_ordered: "back",
  approved: "good",
  ended: "good",
};

export function eventRow(app, event, key) {
  const said = [event.code, event.error?.code, event.message, event.error?.message]
    .filter((each, index, all) => each && all.indexOf(each) === index)
    .join(": ");
  return h(
    "li",
    { key },
    h("time", {}, timeOf(event.at, app.now)),
    h("b", { class: EVENT_TONES[event.kind] ?? "" }, spaced(event.kind)),
    event.wave && h("span", {}, event.wave),
    event.device && h("a", { href: `#/device/${event.device}` }, event.device),
    event.by && h("span", { class: "faint" }, `by ${event.by}`),
    said && h("span", { class: "said" }, said),
  );
}
