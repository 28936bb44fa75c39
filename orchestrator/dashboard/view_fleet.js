// The whole fleet, every device one square, by group; and how the groups do.

import { errorText } from "./commands.js";
import { h } from "./dom.js";
import { described, legend, matrix, tally } from "./matrix.js";
import { grouped, milliseconds, percent } from "./numbers.js";
import { fleetByGroup, placeInFleet } from "./places.js";
import { PLACES } from "./words.js";

const NAMED_MAX = 40;

export function fleetView(app) {
  if (app.login.isLight) return lightView(app);
  const { model, ui } = app;
  const groups = groupsOf(app, ui.filter ?? "");
  const cells = groups.flatMap((each) => each.devices);
  const open = (id) => app.go(`#/device/${id}`);
  return [
    h("h1", { key: "title" }, "Fleet", h("span", { class: "what" }, ` ${grouped(model.devices.size)} devices`)),
    h(
      "div",
      { key: "tools", class: "tools" },
      h(
        "label",
        { class: "search" },
        h("span", { class: "hidden" }, "Find devices"),
        h("input", {
          type: "search",
          placeholder: "id, type, region, version, state …",
          oninput: (event) => {
            ui.filter = event.target.value;
            app.draw();
          },
        }),
      ),
      h("button", { onclick: () => askWorst(app), disabled: app.link.state !== "on" }, "Who is worst off?"),
    ),
    legend(tally(cells)),
    worst(app),
    (ui.filter ?? "") &&
      h(
        "ul",
        { key: "named", class: "named" },
        cells
          .slice(0, NAMED_MAX)
          .map(({ id, place }) =>
            h(
              "li",
              { key: id },
              h("a", { href: `#/device/${id}` }, id),
              ` ${PLACES[place].words} `,
              h("span", { class: "faint" }, model.devices.get(id).reported?.installed ?? ""),
            ),
          ),
        cells.length > NAMED_MAX && h("li", {}, `and ${grouped(cells.length - NAMED_MAX)} more`),
        !cells.length && h("li", {}, "none"),
      ),
    h(
      "div",
      { key: "groups", class: "groups" },
      groups.map((each) => group(app, each, open)),
    ),
  ];
}

/** Without devices: the groups, and the way to one device by its id. */
function lightView(app) {
  const names = [...app.model.groups.keys()].sort();
  const open = (event) => {
    event.preventDefault();
    app.go(`#/device/${encodeURIComponent(String(new FormData(event.target).get("device")).trim())}`);
  };
  return [
    h(
      "h1",
      { key: "title" },
      "Fleet",
      h("span", { class: "what" }, ` ${names.length} groups; devices were left out at the login`),
    ),
    h(
      "form",
      { key: "tools", class: "tools", onsubmit: open },
      h(
        "label",
        { class: "search" },
        h("span", { class: "hidden" }, "Device"),
        h("input", {
          name: "device",
          placeholder: "id of a device",
          pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]{0,63}",
          required: true,
          autocomplete: "off",
        }),
      ),
      h("button", { type: "submit" }, "Open"),
      h(
        "button",
        { type: "button", onclick: () => askWorst(app), disabled: app.link.state !== "on" },
        "Who is worst off?",
      ),
    ),
    worst(app),
    h(
      "div",
      { key: "groups", class: "groups" },
      names.map((name) =>
        h(
          "section",
          { key: name, class: "group" },
          groupLine(name, app.model.groups.get(name).devices, app.model.groups.get(name)),
        ),
      ),
    ),
  ];
}

/** Classify again only when a device has spoken or the filter has changed: the page is drawn each second. */
function groupsOf(app, filter) {
  const { model, ui } = app;
  const key = `${model.fleetRevision} ${model.quarantined.size} ${filter}`;
  if (ui.fleetKey !== key || ui.fleetModel !== model)
    Object.assign(ui, { fleetKey: key, fleetModel: model, fleet: fleetByGroup(model, accepts(model, filter)) });
  return ui.fleet;
}

function accepts(model, filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return () => true;
  return (device) => {
    const { info, reported } = device;
    const place = placeInFleet(device, model.quarantined);
    const told = [
      device.id,
      info?.group,
      info?.type,
      info?.region,
      info?.site,
      reported?.installed,
      reported?.state,
      PLACES[place].words,
    ]
      .join(" ")
      .toLowerCase();
    return words.every((word) => told.includes(word));
  };
}

function group(app, { group: name, devices, counts }, open) {
  const health = app.model.groups.get(name);
  return h(
    "section",
    { key: name, class: "group" },
    groupLine(name, devices.length, health),
    matrix(devices, {
      size: devices.length > 300 ? 9 : 14,
      label: described(name, [...counts], devices),
      open,
      key: "cells",
    }),
  );
}

function groupLine(name, count, health) {
  return h(
    "p",
    { class: "wavehead" },
    h("b", {}, name),
    h("span", {}, `${grouped(count)} devices`),
    health &&
      h(
        "span",
        { class: health.healthy < health.fresh ? "bad" : "" },
        `${health.healthy < health.fresh ? "✖ " : ""}${grouped(health.healthy)} of ${grouped(health.fresh)} heard are healthy`,
      ),
    health && h("span", { class: "faint" }, `${grouped(health.requests)} requests in 5 min`),
    health && health.errorRate !== null && h("span", { class: "faint" }, `errors ${percent(health.errorRate)}`),
    health && health.p95 !== null && h("span", { class: "faint" }, `p95 ${milliseconds(health.p95)}`),
  );
}

async function askWorst(app) {
  const { data, error } = await app.ask("list", { what: "health", limit: 20 }, { isQuiet: true });
  app.ui.worst = error ? { error } : { data };
  app.draw();
}

function worst(app) {
  const found = app.ui.worst;
  if (!found) return false;
  if (found.error) return h("p", { key: "worst", class: "notice bad" }, `✖ ${errorText(found.error)}`);
  const rows = (Array.isArray(found.data.devices) ? found.data.devices : []).filter(
    (row) => row.why || row.healthy === false,
  );
  return h(
    "section",
    { key: "worst" },
    h(
      "h2",
      {},
      "Worst off",
      h("span", { class: "faint" }, ` ${found.data.unhealthy ?? 0} not healthy, ${found.data.silent ?? 0} silent`),
    ),
    h(
      "ul",
      { class: "named" },
      rows.map((row) =>
        h(
          "li",
          { key: row.device },
          h("a", { href: `#/device/${row.device}` }, String(row.device)),
          ` ${row.healthy === false ? "✖ not healthy" : ""} `,
          h("span", { class: "faint" }, String(row.why ?? "")),
        ),
      ),
    ),
    !rows.length && h("p", { class: "good" }, "✔ There is nothing to say against any device."),
  );
}
