// All rollouts, one row each: where it is, and each of its devices as a square.

import { h } from "./dom.js";
import { described, legend, matrix } from "./matrix.js";
import { ago, clock, grouped } from "./numbers.js";
import { placesOfCounts } from "./places.js";
import { VERDICTS, phaseLook, phaseWords, spaced } from "./words.js";

export const SQUARES_MAX = 500;
const ENDED_SHOWN = 20;

export function rolloutsView(app) {
  const all = [...app.model.rollouts.values()]
    .filter((each) => each.status)
    .sort((one, other) => other.status.startedAt - one.status.startedAt);
  const active = all.filter((each) => each.status.endedAt === null);
  const ended = all.filter((each) => each.status.endedAt !== null);
  return [
    h("h1", { key: "title" }, "Rollouts"),
    !all.length &&
      h(
        "p",
        { key: "none", class: "empty" },
        app.link.state === "on" ? "No rollout is known. " : "",
        h("a", { href: "#/start" }, "Plan one"),
        ".",
      ),
    h(
      "section",
      { key: "active", class: "cards", "aria-label": "Active" },
      active.map((each) => card(app, each)),
    ),
    ended.length > 0 && h("h2", { key: "before" }, "Ended"),
    h(
      "section",
      { key: "ended", class: "cards ended", "aria-label": "Ended" },
      ended.slice(0, ENDED_SHOWN).map((each) => card(app, each)),
    ),
  ];
}

function card(app, rollout) {
  const { status, id } = rollout;
  const look = phaseLook(status);
  const total = status.counts.total ?? 0;
  const done = sum(status.waves, "done");
  const counted = placesOfCounts(status.counts, Boolean(look.ended));
  return h(
    "article",
    { key: id, class: `card tone-${look.tone}` },
    h(
      "div",
      { class: "head" },
      h("h3", {}, h("a", { href: `#/rollout/${id}` }, id)),
      h("p", { class: "what" }, releaseName(status), " ", versions(status)),
    ),
    h(
      "p",
      { class: `phase ${look.tone}` },
      h("span", { "aria-hidden": "true" }, look.sign),
      ` ${phaseWords(status)}`,
      status.wave ? h("span", { class: "at" }, ` ${look.waits ? "after" : "at"} ${status.wave}`) : "",
    ),
    h("div", { class: "squares" }, total <= SQUARES_MAX ? strip(rollout, counted) : bars(rollout)),
    h(
      "div",
      { class: "numbers" },
      h("p", {}, h("b", {}, `${grouped(done)}/${grouped(total)}`), " updated"),
      h(
        "p",
        { class: status.counts.failed_ever ? "bad" : "faint" },
        `${status.counts.failed_ever ? "✖ " : ""}${status.counts.failed_ever ?? 0} failed`,
      ),
      h("p", { class: "faint" }, timing(app, status)),
    ),
    h("p", { class: "why" }, status.reasons.map(spaced).join(" · ")),
  );
}

function timing(app, status) {
  if (status.endedAt !== null)
    return `ended ${ago(status.endedAt, app.now)} ago, took ${clock((status.endedAt - status.startedAt) / 1000)}`;
  if (status.nextAt !== null) return `decides in ${clock((status.nextAt - app.now) / 1000)}`;
  return `for ${clock((app.now - status.startedAt) / 1000)}`;
}

export const releaseName = (status) =>
  status.release.endsWith(`-${status.version}`) ? status.release.slice(0, -status.version.length - 1) : status.release;

export function versions(status) {
  const before = Object.keys(status.fromVersions);
  const from = before.length === 1 ? before[0] : before.length ? `${before.length} versions` : "";
  return h("span", { class: "versions" }, from && `${from} → `, h("b", {}, status.version));
}

const sum = (waves, name) => waves.reduce((total, wave) => total + wave[name], 0);

/** One square for each device, wave by wave as they go. */
function strip(rollout, counted) {
  const cells = [...rollout.status.waves].flatMap((wave) => cellsOf(wavePlaces(rollout, wave)));
  return [
    matrix(cells, { size: cells.length <= 60 ? 14 : 10, label: described(rollout.id, counted), key: "strip" }),
    h("div", { class: "wide", key: "legend" }, legend(counted)),
    waveLine(rollout),
  ];
}

/** The waves in a line, each with where it is; of an ended rollout the squares say enough. */
function waveLine({ status }) {
  if (status.endedAt !== null) return false;
  return h(
    "ul",
    { class: "waveline", key: "waves" },
    status.waves.map((wave) => {
      const isCurrent = wave.wave === status.wave;
      const gate = VERDICTS[wave.gate];
      return h(
        "li",
        {
          key: wave.wave,
          class: isCurrent ? phaseLook(status).tone : wave.state === "done" ? (gate?.tone ?? "") : "faint",
        },
        `${isCurrent ? phaseLook(status).sign : wave.state === "done" ? (gate?.sign ?? "✔") : "○"} ${wave.wave} ${grouped(wave.done)}/${grouped(wave.devices)}`,
      );
    }),
  );
}

/** As many squares as there are devices of each place; which is which is not known. */
export const cellsOf = (counted) => counted.flatMap(([place, size]) => Array.from({ length: size }, () => ({ place })));

/** Where the devices of a wave are, from its own document, else from what the status says of it. */
export function wavePlaces(rollout, wave) {
  const counts = rollout.waves.get(wave.wave)?.counts;
  const isOver = rollout.status.endedAt !== null;
  if (counts && Object.keys(counts).length) return placesOfCounts(counts, isOver);
  const rest = Math.max(0, wave.devices - wave.done - wave.failed);
  return [
    ["done", wave.done],
    ["failed", wave.failed],
    [isOver ? "unreached" : "waiting", rest],
  ].filter(([, size]) => size > 0);
}

/** Above so many devices: one bar for each wave, with the numbers. */
function bars(rollout) {
  return h(
    "div",
    { class: "wavebars" },
    rollout.status.waves.map((wave) =>
      h(
        "div",
        { key: wave.wave, class: "wavebar" },
        h("span", { class: "name" }, wave.wave),
        stack(wavePlaces(rollout, wave), wave.devices),
        h("span", { class: "count" }, `${grouped(wave.done)}/${grouped(wave.devices)}`),
      ),
    ),
  );
}

/** A bar of shares; the words stand in its title and beside it. */
export function stack(counted, total) {
  const words = counted.map(([place, size]) => `${size} ${spaced(place)}`).join(", ");
  return h(
    "span",
    { class: "stack", role: "img", "aria-label": words, title: words },
    counted.map(([place, size]) =>
      h("i", { key: place, class: `place-${place}`, style: { "flex-grow": String(size) } }),
    ),
    total === 0 && "",
  );
}
