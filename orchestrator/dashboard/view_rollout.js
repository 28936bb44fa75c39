// One rollout: where it is and why, its waves in time, the checks of its gate, its devices, what happened, what to do.

import { askVerb } from "./dialog.js";
import { h } from "./dom.js";
import { checkTable } from "./view_checks.js";
import { timelineSection } from "./view_timeline.js";
import { described, legend, matrix, tally } from "./matrix.js";
import { ago, clock, grouped, milliseconds, percent, timeOf } from "./numbers.js";
import { membersOf, placeInRollout } from "./places.js";
import { check, isObject, list } from "./shape.js";
import { cellsOf, releaseName, stack, versions, wavePlaces } from "./view_rollouts.js";
import { VERDICTS, orderedVerbs, phaseLook, phaseWords, spaced } from "./words.js";

const NAMED_MAX = 10_000;

export function rolloutView(app) {
  const rollout = app.model.rollouts.get(app.route.id);
  if (!rollout?.status) return [h("h1", { key: "title" }, app.route.id), h("p", { key: "none", class: "empty" }, "Nothing is known of this rollout. ", h("a", { href: "#/" }, "All rollouts"), ".")];
  return [
    h("div", { key: "top", class: "top" }, heading(app, rollout), actions(app, rollout)),
    h("div", { key: "columns", class: "columns" },
      h("div", { key: "left" }, timelineSection(app, rollout), evidenceSection(app, rollout), gateSection(app, rollout), devicesSection(app, rollout)),
      h("div", { key: "right" }, whySection(app, rollout), eventsSection(app, rollout))),
  ];
}

function heading(app, { id, status }) {
  const look = phaseLook(status);
  return h("div", { class: "heading" },
    h("h1", {}, id, h("span", { class: "what" }, ` ${releaseName(status)} `, versions(status))),
    h("p", { class: `phase big ${look.tone}` }, h("span", { "aria-hidden": "true" }, look.sign), ` ${phaseWords(status)}`,
      status.wave ? h("span", { class: "at" }, ` ${look.waits ? "after" : "at"} ${status.wave}`) : "",
      status.nextAt !== null && h("span", { class: "at" }, `, decides in ${clock((status.nextAt - app.now) / 1000)}`)),
    h("p", { class: "faint" }, `started ${timeOf(status.startedAt, app.now)} by ${status.startedBy}, `,
      status.endedAt === null ? `running for ${clock((app.now - status.startedAt) / 1000)}` : `ended ${timeOf(status.endedAt, app.now)} after ${clock((status.endedAt - status.startedAt) / 1000)}`,
      status.planDigest && h("span", { title: status.planDigest }, ` · plan ${status.planDigest.slice(0, 12)}`)),
    status.reasons.length > 0 && h("p", { class: "why" }, status.reasons.map(spaced).join(" · ")));
}

function actions(app, { id, status }) {
  const verbs = orderedVerbs(status.allowed);
  if (!verbs.length) return false;
  // What was seen is what is commanded: at another wave or with another plan the orchestrator refuses it.
  const body = { wave: status.wave ?? undefined };
  return h("div", { class: "actions", role: "group", "aria-label": "Commands" }, verbs.map((verb) => h("button", {
    key: verb, disabled: app.link.state !== "on", class: { approve: "primary", resume: "primary", rollback: "grave", reject: "grave", abort: "grave" }[verb] ?? "",
    onclick: () => askVerb(app, verb, id, verb === "approve" ? { ...body, plan: status.planDigest || undefined } : body),
  }, verb)));
}

function gateSection(app, rollout) {
  const { gates, status } = rollout;
  if (!gates.size) return h("section", { key: "gate" }, h("h2", {}, "Gate"), h("p", { class: "empty" }, status.endedAt === null ? "Nothing has been judged yet." : "No gate was judged."));
  const newest = [...gates].reduce((one, other) => (other[1].at >= one[1].at ? other : one))[0];
  const chosen = app.ui[`gate-${rollout.id}`] ?? (gates.has(status.wave) ? status.wave : newest);
  const gate = gates.get(chosen) ?? gates.get(newest);
  const look = VERDICTS[gate.verdict] ?? VERDICTS.inconclusive;
  return h("section", { key: "gate" },
    h("h2", {}, `${gate.gate} after ${chosen}`, " ", h("span", { class: look.tone }, `${look.sign} ${gate.verdict}`),
      h("span", { class: "faint" }, ` ${spaced(gate.decision)} · ${gate.devices} devices · judged ${ago(gate.at, app.now)} ago${gate.phase ? ` · ${spaced(gate.phase)}` : ""}`)),
    gates.size > 1 && h("p", { class: "tabs" }, status.waves.filter((wave) => gates.has(wave.wave)).map((wave) => h("button", {
      key: wave.wave, class: "quiet", "aria-pressed": String(wave.wave === chosen), onclick: () => { app.ui[`gate-${rollout.id}`] = wave.wave; app.draw(); },
    }, `${VERDICTS[gates.get(wave.wave).verdict]?.sign ?? "?"} ${wave.wave}`))),
    checkTable(gate.checks),
    gate.notJudged.length > 0 && h("p", { class: "faint" }, `Not judged: ${gate.notJudged.join("; ")}`));
}

function devicesSection(app, rollout) {
  const waves = rollout.status.waves.map((wave) => ({ wave, names: membersOf(app.model, rollout, wave.wave).slice(0, NAMED_MAX) }));
  const rows = waves.map((each) => ({ ...each, cells: named(app, rollout, each.names) }));
  const all = tally(rows.flatMap((each) => each.cells));
  if (rollout.status.endedAt !== null && all.some(([place]) => place === "moved")) return countedSection(app, rollout);
  return h("section", { key: "devices" },
    h("h2", {}, "Waves and devices"),
    legend(all),
    h("div", { class: "waves" }, rows.map(({ wave, cells }) => waveRow(app, rollout, wave, cells))));
}

const named = (app, rollout, names) => names.map((id) => ({ id, place: placeInRollout(app.model.devices.get(id), rollout, app.model.rollouts) }));

/** Of a rollout whose devices have later orders, the bus only knows how many ended where. */
function countedSection(app, rollout) {
  const rows = rollout.status.waves.map((wave) => ({ wave, cells: cellsOf(wavePlaces(rollout, wave)).slice(0, NAMED_MAX) }));
  return h("section", { key: "devices" },
    h("h2", {}, "Waves and devices"),
    legend(tally(rows.flatMap((each) => each.cells))),
    h("div", { class: "waves" }, rows.map(({ wave, cells }) => waveRow(app, rollout, wave, cells))),
    h("p", { class: "faint" }, "Its devices have later orders by now; these squares are how many ended where."));
}

function waveRow(app, rollout, wave, cells) {
  const look = VERDICTS[wave.gate];
  const health = rollout.waves.get(wave.wave)?.health;
  const left = Math.max(0, wave.soakRequired - wave.soaked);
  const isCurrent = wave.wave === rollout.status.wave;
  return h("div", { key: wave.wave, class: isCurrent ? "wave current" : "wave" },
    h("p", { class: "wavehead" },
      h("b", {}, `${isCurrent ? phaseLook(rollout.status).sign : wave.state === "done" ? "✔" : "○"} ${wave.wave}`),
      h("span", {}, `${grouped(wave.done)}/${grouped(wave.devices)} updated`),
      wave.done > 0 && h("span", {}, `${grouped(wave.healthy)} healthy`),
      wave.failed > 0 && h("span", { class: "bad" }, `✖ ${grouped(wave.failed)} failed`),
      wave.offline > 0 && h("span", { class: "wait" }, `${grouped(wave.offline)} offline`),
      wave.state !== "done" && left > 0 && rollout.status.endedAt === null && h("span", { class: "faint" }, `soak ${clock(left)} left`),
      health && health.errorRate !== null && h("span", { class: "faint" }, `errors ${percent(health.errorRate)}`),
      health && health.p95 !== null && h("span", { class: "faint" }, `p95 ${milliseconds(health.p95)}`),
      look && h("span", { class: look.tone }, `${look.sign} gate ${wave.gate}`)),
    cells.length < wave.devices && stack(wavePlaces(rollout, wave), wave.devices),
    cells.length > 0 && matrix(cells, { size: cells.length > 500 ? 10 : 14, label: described(wave.wave, tally(cells), cells), open: cells[0].id ? (id) => app.go(`#/device/${id}`) : null, key: "cells" }),
    cells.length < wave.devices && h("p", { class: "faint" }, `${grouped(wave.devices - cells.length)} of ${grouped(wave.devices)} cannot be named: they have no order of this rollout (any more).`));
}

/** Ask the orchestrator for its account, again whenever something has changed. */
function explained(app, { id, status, gates }) {
  const key = [status.phase, status.wave, status.paused, [...gates.values()].map((gate) => gate.verdict).join()].join("|");
  return app.explain(`rollout ${id}`, { rollout: id }, key);
}

/** What closed the gate, with its numbers: the last step that something failed in; what was seen after a rollback has no time. */
function evidenceSection(app, rollout) {
  const { data } = explained(app, rollout);
  const failed = (Array.isArray(data?.why) ? data.why : []).map((step) => ({ ...step, checks: list(step.evidence).filter(isObject).map(check) }));
  const last = failed.findLast((step) => step.at && step.checks.some((each) => each.verdict === "fail"));
  if (!last) return h("section", { key: "evidence" });
  return h("section", { key: "evidence" }, h("h2", {}, "What stopped it", h("span", { class: "faint" }, ` ${last.at ? timeOf(Date.parse(last.at), app.now) : ""}`)), checkTable(last.checks));
}

function whySection(app, rollout) {
  const { data, error } = explained(app, rollout);
  if (error) return h("section", { key: "why" }, h("h2", {}, "How it came here"), h("p", { class: "faint" }, `The orchestrator was asked and did not say: ${error.message}`));
  if (!data) return h("section", { key: "why" });
  return h("section", { key: "why" },
    h("h2", {}, "How it came here"),
    steps(app, data));
}

/** The orchestrator's own account, oldest first. */
export function steps(app, data) {
  const why = Array.isArray(data.why) ? data.why : [];
  return [
    h("ol", { class: "steps" }, why.map((step, index) => h("li", { key: index },
      h("time", {}, step.at ? timeOf(Date.parse(step.at), app.now) : ""), h("span", {}, String(step.text ?? "")),
      step.devices && Object.keys(step.devices).length > 0 && h("span", { class: "faint" }, Object.entries(step.devices).slice(0, 5).map(([id, said]) => h("span", { key: id, class: "said" }, h("a", { href: `#/device/${id}` }, id), ` ${said}`)))))),
    data.awaited?.text && h("p", { class: "calm" }, `◔ ${data.awaited.text}${data.awaited.by ? `, by ${timeOf(Date.parse(data.awaited.by), app.now)}` : ""}`),
  ];
}

function eventsSection(app, rollout) {
  const events = [...rollout.events].reverse();
  return h("section", { key: "events" },
    h("h2", {}, "As it happens", h("span", { class: "faint" }, ` since ${timeOf(app.link.connectedAt, app.now, { seconds: false })}`)),
    events.length ? h("ul", { class: "feed" }, events.map((event, index) => eventRow(app, event, events.length - index))) : h("p", { class: "empty" }, "Nothing since this page connected."));
}

const EVENT_TONES = { device_failed: "bad", halted: "bad", rollback: "back", rollback_ordered: "back", approved: "good", ended: "good" };

export function eventRow(app, event, key) {
  const said = [event.code, event.error?.code, event.message, event.error?.message].filter((each, index, all) => each && all.indexOf(each) === index).join(": ");
  return h("li", { key },
    h("time", {}, timeOf(event.at, app.now)),
    h("b", { class: EVENT_TONES[event.kind] ?? "" }, spaced(event.kind)),
    event.wave && h("span", {}, event.wave), event.device && h("a", { href: `#/device/${event.device}` }, event.device),
    event.by && h("span", { class: "faint" }, `by ${event.by}`), said && h("span", { class: "said" }, said));
}
