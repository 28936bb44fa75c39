// The journal as it is written: who and what decided, each record chained to the one before.

import { h } from "./dom.js";
import { timeOf } from "./numbers.js";
import { spaced } from "./words.js";

const SHOWN = 300;
const ROUTINE = new Set(["soak_progressed", "grant_issued", "device_announced", "connections_lost"]);
const TOLD_FIRST = [
  "rollout",
  "device",
  "verb",
  "subject",
  "status",
  "code",
  "outcome",
  "wave",
  "verdict",
  "decision",
  "action",
  "trigger",
  "by",
  "actor",
  "reason",
  "message",
];

export function auditView(app) {
  const { audit, auditGaps } = app.model;
  const filter = (app.ui.auditFilter ?? "").toLowerCase();
  const wanted = app.ui.auditAll ? audit : audit.filter((each) => !ROUTINE.has(each.kind) || !each.follows);
  const records = wanted
    .filter((each) => !filter || told(app, each).toLowerCase().includes(filter))
    .slice(-SHOWN)
    .reverse();
  const first = audit[0];
  return [
    h("h1", { key: "title" }, "Audit"),
    h("p", { key: "chain", class: auditGaps ? "notice bad" : "faint" }, chainWords(app, first, auditGaps)),
    h(
      "div",
      { key: "tools", class: "tools" },
      h(
        "label",
        { class: "search" },
        h("span", { class: "hidden" }, "Filter"),
        h("input", {
          type: "search",
          placeholder: "kind, rollout, device, person …",
          oninput: (event) => {
            app.ui.auditFilter = event.target.value;
            app.draw();
          },
        }),
      ),
      h(
        "label",
        { class: "check" },
        h("input", {
          type: "checkbox",
          onchange: (event) => {
            app.ui.auditAll = event.target.checked;
            app.draw();
          },
        }),
        h("span", {}, "with routine: grants, progress of soaks, presence"),
      ),
    ),
    h(
      "ul",
      { key: "records", class: "feed audit" },
      records.map((record) =>
        h(
          "li",
          { key: record.seq, class: record.follows ? "" : "gap" },
          h("time", {}, timeOf(record.at, app.now)),
          h("span", { class: "faint seq" }, `#${record.seq}`),
          h("b", {}, spaced(record.kind)),
          h("span", { class: "said" }, said(app, record)),
          !record.follows && h("span", { class: "bad" }, "✖ does not follow the record before"),
        ),
      ),
    ),
  ];
}

function chainWords(app, first, gaps) {
  if (!first)
    return "The audit is not kept on the broker: records appear here from now on, if your user may read them. The whole of it: tidegate audit show.";
  const since = `from #${first.seq} on (${timeOf(first.at, app.now)})`;
  return gaps
    ? `✖ ${gaps} records do not follow the one before: some were missed, or the chain is broken; tidegate audit verify tells.`
    : `✔ each record ${since} names the hash of the one before. Earlier ones: tidegate audit show.`;
}

const told = (app, record) => `${record.seq} ${spaced(record.kind)} ${said(app, record)}`;

function said(app, { body }) {
  const waves = app.model.rollouts.get(body.rollout)?.status?.waves;
  const known = TOLD_FIRST.filter((name) => typeof body[name] === "string" || typeof body[name] === "number");
  const devices = body.devices && typeof body.devices === "object" ? Object.keys(body.devices).length : 0;
  return [
    ...known.map(
      (name) =>
        `${name === "by" || name === "actor" ? "by " : ""}${name === "wave" ? (waves?.[body.wave]?.wave ?? `wave ${body.wave}`) : body[name]}`,
    ),
    devices ? `${devices} devices` : "",
  ]
    .filter((each) => String(each).trim())
    .join(" · ");
}
