// The waves of a rollout, and where each of their devices is.

import { h } from "./dom.js";
import { described, legend, matrix, tally } from "./matrix.js";
import { clock, grouped, milliseconds, percent } from "./numbers.js";
import { membersOf, placeInRollout } from "./places.js";
import { cellsOf, stack, wavePlaces } from "./view_rollouts.js";
import { VERDICTS, phaseLook } from "./words.js";

const NAMED_MAX = 10_000;

export function devicesSection(app, rollout) {
  const waves = rollout.status.waves.map((wave) => ({
    wave,
    names: membersOf(app.model, rollout, wave.wave).slice(0, NAMED_MAX),
  }));
  const rows = waves.map((each) => ({ ...each, cells: named(app, rollout, each.names) }));
  const all = tally(rows.flatMap((each) => each.cells));
  if (app.login.isLight)
    return countedSection(app, rollout, "Devices were left out at the login; these squares are how many are where.");
  if (rollout.status.endedAt !== null && all.some(([place]) => place === "moved"))
    return countedSection(
      app,
      rollout,
      "Its devices have later orders by now; these squares are how many ended where.",
    );
  return h(
    "section",
    { key: "devices" },
    h("h2", {}, "Waves and devices"),
    legend(all),
    h(
      "div",
      { class: "waves" },
      rows.map(({ wave, cells }) => waveRow(app, rollout, wave, cells)),
    ),
  );
}

const named = (app, rollout, names) =>
  names.map((id) => ({ id, place: placeInRollout(app.model.devices.get(id), rollout, app.model.rollouts) }));

/** Where nothing is known of single devices, the orchestrator's counts still say how many are where. */
function countedSection(app, rollout, words) {
  const rows = rollout.status.waves.map((wave) => ({
    wave,
    cells: cellsOf(wavePlaces(rollout, wave)).slice(0, NAMED_MAX),
  }));
  return h(
    "section",
    { key: "devices" },
    h("h2", {}, "Waves and devices"),
    legend(tally(rows.flatMap((each) => each.cells))),
    h(
      "div",
      { class: "waves" },
      rows.map(({ wave, cells }) => waveRow(app, rollout, wave, cells)),
    ),
    h("p", { class: "faint" }, words),
  );
}

function waveRow(app, rollout, wave, cells) {
  const look = VERDICTS[wave.gate];
  const health = rollout.waves.get(wave.wave)?.health;
  const left = Math.max(0, wave.soakRequired - wave.soaked);
  const isCurrent = wave.wave === rollout.status.wave;
  return h(
    "div",
    { key: wave.wave, class: isCurrent ? "wave current" : "wave" },
    h(
      "p",
      { class: "wavehead" },
      h("b", {}, `${isCurrent ? phaseLook(rollout.status).sign : wave.state === "done" ? "✔" : "○"} ${wave.wave}`),
      h("span", {}, `${grouped(wave.done)}/${grouped(wave.devices)} updated`),
      wave.done > 0 && h("span", {}, `${grouped(wave.healthy)} healthy`),
      wave.failed > 0 && h("span", { class: "bad" }, `✖ ${grouped(wave.failed)} failed`),
      wave.offline > 0 && h("span", { class: "wait" }, `${grouped(wave.offline)} offline`),
      wave.state !== "done" &&
        left > 0 &&
        rollout.status.endedAt === null &&
        h("span", { class: "faint" }, `soak ${clock(left)} left`),
      health && health.errorRate !== null && h("span", { class: "faint" }, `errors ${percent(health.errorRate)}`),
      health && health.p95 !== null && h("span", { class: "faint" }, `p95 ${milliseconds(health.p95)}`),
      look && h("span", { class: look.tone }, `${look.sign} gate ${wave.gate}`),
    ),
    cells.length < wave.devices && stack(wavePlaces(rollout, wave), wave.devices),
    cells.length > 0 &&
      matrix(cells, {
        size: cells.length > 500 ? 10 : 14,
        label: described(wave.wave, tally(cells), cells),
        open: cells[0].id ? (id) => app.go(`#/device/${id}`) : null,
        key: "cells",
      }),
    cells.length < wave.devices &&
      h(
        "p",
        { class: "faint" },
        `${grouped(wave.devices - cells.length)} of ${grouped(wave.devices)} cannot be named: they have no order of this rollout (any more).`,
      ),
  );
}
