// One rollout: where it is and why, its waves in time, the checks of its gate, its devices, what happened, what to do.

import { eventsSection, evidenceSection, whySection } from "./account.js";
import { askVerb } from "./dialog.js";
import { h } from "./dom.js";
import { ago, clock, timeOf } from "./numbers.js";
import { checkTable } from "./view_checks.js";
import { devicesSection } from "./view_members.js";
import { releaseName, versions } from "./view_rollouts.js";
import { timelineSection } from "./view_timeline.js";
import { VERDICTS, orderedVerbs, phaseLook, phaseWords, spaced } from "./words.js";

export function rolloutView(app) {
  const rollout = app.model.rollouts.get(app.route.id);
  if (!rollout?.status)
    return [
      h("h1", { key: "title" }, app.route.id),
      h(
        "p",
        { key: "none", class: "empty" },
        "Nothing is known of this rollout. ",
        h("a", { href: "#/" }, "All rollouts"),
        ".",
      ),
    ];
  return [
    h("div", { key: "top", class: "top" }, heading(app, rollout), actions(app, rollout)),
    h(
      "div",
      { key: "columns", class: "columns" },
      h(
        "div",
        { key: "left" },
        timelineSection(app, rollout),
        evidenceSection(app, rollout),
        gateSection(app, rollout),
        devicesSection(app, rollout),
      ),
      h("div", { key: "right" }, whySection(app, rollout), eventsSection(app, rollout)),
    ),
  ];
}

function heading(app, { id, status }) {
  const look = phaseLook(status);
  return h(
    "div",
    { class: "heading" },
    h("h1", {}, id, h("span", { class: "what" }, ` ${releaseName(status)} `, versions(status))),
    h(
      "p",
      { class: `phase big ${look.tone}` },
      h("span", { "aria-hidden": "true" }, look.sign),
      ` ${phaseWords(status)}`,
      status.wave ? h("span", { class: "at" }, ` ${look.waits ? "after" : "at"} ${status.wave}`) : "",
      status.nextAt !== null && h("span", { class: "at" }, `, decides in ${clock((status.nextAt - app.now) / 1000)}`),
    ),
    h(
      "p",
      { class: "faint" },
      `started ${timeOf(status.startedAt, app.now)} by ${status.startedBy}, `,
      status.endedAt === null
        ? `running for ${clock((app.now - status.startedAt) / 1000)}`
        : `ended ${timeOf(status.endedAt, app.now)} after ${clock((status.endedAt - status.startedAt) / 1000)}`,
      status.planDigest && h("span", { title: status.planDigest }, ` · plan ${status.planDigest.slice(0, 12)}`),
    ),
    status.reasons.length > 0 && h("p", { class: "why" }, status.reasons.map(spaced).join(" · ")),
  );
}

function actions(app, { id, status }) {
  const verbs = orderedVerbs(status.allowed);
  if (!verbs.length) return false;
  // What was seen is what is commanded: at another wave or with another plan the orchestrator refuses it.
  const body = { wave: status.wave ?? undefined };
  return h(
    "div",
    { class: "actions", role: "group", "aria-label": "Commands" },
    verbs.map((verb) =>
      h(
        "button",
        {
          key: verb,
          disabled: app.link.state !== "on",
          class:
            { approve: "primary", resume: "primary", rollback: "grave", reject: "grave", abort: "grave" }[verb] ?? "",
          onclick: () =>
            askVerb(app, verb, id, verb === "approve" ? { ...body, plan: status.planDigest || undefined } : body),
        },
        verb,
      ),
    ),
  );
}

function gateSection(app, rollout) {
  const { gates, status } = rollout;
  if (!gates.size)
    return h(
      "section",
      { key: "gate" },
      h("h2", {}, "Gate"),
      h("p", { class: "empty" }, status.endedAt === null ? "Nothing has been judged yet." : "No gate was judged."),
    );
  const newest = [...gates].reduce((one, other) => (other[1].at >= one[1].at ? other : one))[0];
  const chosen = app.ui[`gate-${rollout.id}`] ?? (gates.has(status.wave) ? status.wave : newest);
  const gate = gates.get(chosen) ?? gates.get(newest);
  const look = VERDICTS[gate.verdict] ?? VERDICTS.inconclusive;
  return h(
    "section",
    { key: "gate" },
    h(
      "h2",
      {},
      `${gate.gate} after ${chosen}`,
      " ",
      h("span", { class: look.tone }, `${look.sign} ${gate.verdict}`),
      h(
        "span",
        { class: "faint" },
        ` ${spaced(gate.decision)} · ${gate.devices} devices · judged ${ago(gate.at, app.now)} ago${gate.phase ? ` · ${spaced(gate.phase)}` : ""}`,
      ),
    ),
    gates.size > 1 &&
      h(
        "p",
        { class: "tabs" },
        status.waves
          .filter((wave) => gates.has(wave.wave))
          .map((wave) =>
            h(
              "button",
              {
                key: wave.wave,
                class: "quiet",
                "aria-pressed": String(wave.wave === chosen),
                onclick: () => {
                  app.ui[`gate-${rollout.id}`] = wave.wave;
                  app.draw();
                },
              },
              `${VERDICTS[gates.get(wave.wave).verdict]?.sign ?? "?"} ${wave.wave}`,
            ),
          ),
      ),
    checkTable(gate.checks),
    gate.notJudged.length > 0 && h("p", { class: "faint" }, `Not judged: ${gate.notJudged.join("; ")}`),
  );
}
