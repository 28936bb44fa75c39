// One device: what it runs and where, what it was ordered, how it does, what happened to it.

import { eventRow, steps } from "./account.js";
import { charts } from "./charts.js";
import { errorText } from "./commands.js";
import { h } from "./dom.js";
import { swatch } from "./matrix.js";
import { ago, bytes, timeOf } from "./numbers.js";
import { placeInFleet } from "./places.js";
import { PLACES, spaced } from "./words.js";

export function deviceView(app) {
  const device = app.model.devices.get(app.route.id);
  if (!device)
    return [
      h("h1", { key: "title" }, app.route.id),
      h(
        "p",
        { key: "none", class: "empty" },
        "Nothing is known of this device. ",
        h("a", { href: "#/fleet" }, "The fleet"),
        ".",
      ),
    ];
  const { reported, desired } = device;
  const key = [
    reported?.state,
    reported?.observed,
    desired?.generation,
    desired?.action,
    device.online,
    app.reply?.at,
  ].join("|");
  const explained = app.explain(`device ${device.id}`, { device: device.id }, key);
  return [
    h("div", { key: "top", class: "top" }, heading(app, device, explained.data), actions(app, device, explained.data)),
    h(
      "div",
      { key: "columns", class: "columns" },
      h("div", { key: "left" }, slots(device), trouble(device), healthSection(app, device)),
      h("div", { key: "right" }, facts(app, device), why(app, explained), history(app, device)),
    ),
  ];
}

function heading(app, device, said) {
  const place = isQuarantined(app, device, said) ? "quarantined" : placeInFleet(device, app.model.quarantined);
  const presence = { true: ["good", "● online"], false: ["wait", "○ offline"] }[device.online] ?? [
    "faint",
    "? presence unknown",
  ];
  return h(
    "div",
    { class: "heading" },
    h(
      "h1",
      {},
      device.id,
      h(
        "span",
        { class: "what" },
        device.info ? ` ${device.info.type}, ${device.info.region}, group ${device.info.group}` : "",
      ),
    ),
    h(
      "p",
      { class: `phase big ${PLACES[place].tone}` },
      swatch(place),
      ` ${PLACES[place].words}`,
      device.reported && h("span", { class: "at" }, `, ${spaced(device.reported.state)}`),
      h("span", { class: `at ${presence[0]}` }, ` ${presence[1]}`),
    ),
    device.reported?.percentage !== null &&
      device.reported?.percentage !== undefined &&
      device.reported.state !== "idle" &&
      h("progress", { max: 100, value: device.reported.percentage, "aria-label": "update" }),
  );
}

const isQuarantined = (app, device, said) => app.model.quarantined.has(device.id) || Boolean(said?.quarantine);

function actions(app, device, said) {
  const kept = isQuarantined(app, device, said);
  const { desired } = device;
  const status = app.model.rollouts.get(desired?.rollout)?.status;
  const mayBe = (verb) => status?.allowed.includes(verb);
  const ask = (title, text, button, run) => () => {
    app.dialog = { title, text, wantsReason: true, button, run };
    app.draw();
  };
  const isOff = app.link.state !== "on";
  const skip = ask(`skip ${device.id}`, `It is left out of ${desired?.rollout}.`, "skip", ({ reason }) =>
    app.ask("skip", { rollout: desired.rollout, devices: [device.id], reason }),
  );
  const retry = ask(`retry ${device.id}`, `It is ordered again in ${desired?.rollout}.`, "retry", ({ reason }) =>
    app.ask("retry", { rollout: desired.rollout, devices: [device.id], reason }),
  );
  const keep = ask(
    `quarantine ${device.id}`,
    "It is kept out of all waves until somebody releases it.",
    "quarantine",
    ({ reason }) => app.ask("quarantine", { device: device.id, reason }),
  );
  const release = ask(`release ${device.id}`, "It may take part in waves again.", "release", ({ reason }) =>
    app.ask("release", { device: device.id, reason }),
  );
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": "Commands" },
    h(
      "button",
      { key: "keep", disabled: isOff, onclick: kept ? release : keep },
      kept ? "release from quarantine" : "quarantine",
    ),
    mayBe("retry") && h("button", { key: "retry", disabled: isOff, onclick: retry }, `retry in ${desired.rollout}`),
    mayBe("skip") && h("button", { key: "skip", disabled: isOff, onclick: skip }, `skip in ${desired.rollout}`),
  );
}

function slots({ info, reported }) {
  const names = info?.slots.length ? info.slots : ["blue", "green"];
  const active = reported?.slot;
  return h(
    "section",
    { key: "slots" },
    h("h2", {}, "Slots"),
    h(
      "div",
      { class: "slots" },
      names.map((name) => {
        const isActive = name === active;
        const version = isActive ? reported.installed : active && names.length === 2 ? reported.previous : "";
        return h(
          "div",
          { key: name, class: isActive ? "slot active" : "slot" },
          h("b", {}, `${isActive ? "▶ " : ""}${name}`),
          h("span", { class: "version" }, version || "–"),
          h("span", { class: "faint" }, isActive ? "serves" : active ? "standby" : "not known which serves"),
        );
      }),
    ),
  );
}

function trouble({ reported }) {
  if (!reported?.error) return false;
  const { code, step, message, retryable } = reported.error;
  return h(
    "section",
    { key: "trouble" },
    h("h2", {}, "Last error"),
    h(
      "p",
      { class: "notice bad" },
      h("b", {}, `✖ ${code}`),
      ` while ${step}: ${message}`,
      retryable && " (may pass by itself)",
    ),
  );
}

function healthSection(app, device) {
  const last = device.samples.at(-1);
  const word = !last
    ? ""
    : last.unreadable
      ? "✖ unreadable sample"
      : last.healthy === null
        ? ""
        : last.healthy
          ? "✔ healthy"
          : "✖ not healthy";
  return h(
    "section",
    { key: "health" },
    h(
      "h2",
      {},
      "Health",
      h("span", { class: word.startsWith("✖") ? "bad" : "good" }, ` ${word}`),
      h(
        "span",
        { class: "faint" },
        last
          ? ` sample ${ago(last.at, app.now)} ago${last.restarts === null ? "" : `, ${last.restarts} restarts`}`
          : " no sample since this page was opened",
      ),
    ),
    charts(device.samples),
  );
}

function facts(app, device) {
  const { info, reported, desired } = device;
  const rows = [
    ["runs", reported?.installed || info?.version],
    ["before", reported?.previous],
    [
      "ordered",
      desired &&
        h(
          "span",
          {},
          `${desired.action} ${desired.version}, generation ${desired.generation}, `,
          h("a", { href: `#/rollout/${desired.rollout}` }, desired.rollout),
          ` ${desired.wave}`,
        ),
    ],
    [
      "has seen",
      reported &&
        `generation ${reported.observed}${desired && reported.observed < desired.generation ? " (not the last order yet)" : ""}`,
    ],
    ["reported", reported?.at && timeOf(reported.at, app.now)],
    ["site", info?.site],
    ["architecture", info?.arch],
    ["agent", info?.agent],
    ["sessions", info && `${info.session}${info.at ? `, the last since ${timeOf(info.at, app.now)}` : ""}`],
    ["tags", info?.tags.join(", ")],
    ["known issues", info?.issues.join(", ")],
    ["maintenance", info?.maintenance && "yes"],
    ["sleeps until", info?.sleepingUntil && timeOf(info.sleepingUntil, app.now)],
    ["disk free", info?.diskFree && bytes(info.diskFree)],
    ["memory", info?.memory && bytes(info.memory)],
  ].filter(([, value]) => value);
  return h(
    "section",
    { key: "facts" },
    h("h2", {}, "Facts"),
    h(
      "dl",
      {},
      rows.flatMap(([name, value]) => [h("dt", { key: `t-${name}` }, name), h("dd", { key: `d-${name}` }, value)]),
    ),
  );
}

function why(app, { data, error }) {
  if (error)
    return h("section", { key: "why" }, h("h2", {}, "Why it is here"), h("p", { class: "faint" }, errorText(error)));
  if (!data) return h("section", { key: "why" });
  return h(
    "section",
    { key: "why" },
    h("h2", {}, "Why it is here"),
    h("p", {}, String(data.summary ?? "")),
    data.quarantine && h("p", { class: "bad" }, `✖ in quarantine: ${data.quarantine}`),
    steps(app, data),
  );
}

function history(app, device) {
  const events = [...device.events].reverse();
  return h(
    "section",
    { key: "events" },
    h(
      "h2",
      {},
      "Events",
      h("span", { class: "faint" }, ` since ${timeOf(app.link.connectedAt, app.now, { seconds: false })}`),
    ),
    events.length
      ? h(
          "ul",
          { class: "feed" },
          events.map((event, index) => eventRow(app, { ...event, device: "" }, events.length - index)),
        )
      : h("p", { class: "empty" }, "None since this page connected."),
  );
}
