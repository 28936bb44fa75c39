// Plan first, look, then start exactly that plan.

import { errorText } from "./commands.js";
import { h } from "./dom.js";
import { clock, grouped } from "./numbers.js";
import { spaced } from "./words.js";

export function startView(app) {
  const form = (app.ui.start ??= { policyFrom: "" });
  const rollouts = [...app.model.rollouts.values()];
  const releases = [...new Set(rollouts.map((each) => each.status?.release).filter(Boolean))];
  const isOff = app.link.state !== "on" || form.isAsking;
  const change = (event) => {
    form[event.target.name] = event.target.type === "checkbox" ? event.target.checked : event.target.value;
    form.plan = null;
    app.draw();
  };
  return [
    h("h1", { key: "title" }, "Plan and start"),
    h(
      "form",
      {
        key: "form",
        class: "startform",
        onsubmit: (event) => {
          event.preventDefault();
          ask(app, form);
        },
        oninput: change,
      },
      h(
        "label",
        {},
        h("span", {}, "Release"),
        h("input", {
          name: "release",
          required: true,
          list: "releases",
          autocomplete: "off",
          placeholder: "sensor-app-1.2.0",
        }),
      ),
      h(
        "datalist",
        { id: "releases" },
        releases.map((each) => h("option", { key: each, value: each })),
      ),
      h(
        "label",
        {},
        h("span", {}, "Policy"),
        h(
          "select",
          { name: "policyFrom" },
          h("option", { value: "" }, "by name"),
          h("option", { value: "json" }, "pasted as JSON"),
          rollouts
            .filter((each) => each.plan?.policy)
            .map((each) => h("option", { key: each.id, value: each.id }, `that of ${each.id}`)),
        ),
      ),
      form.policyFrom === "" &&
        h(
          "label",
          { key: "name" },
          h("span", {}, "Policy's name"),
          h("input", { name: "policy", required: true, autocomplete: "off", placeholder: "careful" }),
        ),
      form.policyFrom === "json" &&
        h(
          "label",
          { key: "json", class: "whole" },
          h("span", {}, "Policy as JSON"),
          h("textarea", { name: "policyJson", rows: 8, required: true, spellcheck: "false" }),
        ),
      h(
        "label",
        {},
        h("span", {}, "Name of the rollout"),
        h("input", {
          name: "rollout",
          autocomplete: "off",
          pattern: "[A-Za-z0-9][A-Za-z0-9_\\-]{0,63}",
          placeholder: "next free",
        }),
      ),
      h(
        "label",
        {},
        h("span", {}, "Time scale"),
        h("input", { name: "scale", type: "number", min: 1, step: "any", placeholder: "1" }),
      ),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", name: "supersede" }),
        h("span", {}, "End active rollouts that hold the same devices"),
      ),
      h("button", { type: "submit", class: "primary", disabled: isOff }, form.isAsking ? "asked …" : "Plan"),
      h("p", { class: "hint whole" }, "Nothing is changed by planning."),
    ),
    form.error && h("p", { key: "error", class: "notice bad", role: "alert" }, `✖ ${errorText(form.error)}`),
    form.plan && planOf(app, form),
  ];
}

function bodyOf(app, form) {
  let policy = form.policy ?? "";
  if (form.policyFrom === "json") policy = JSON.parse(form.policyJson ?? "");
  else if (form.policyFrom) policy = app.model.rollouts.get(form.policyFrom).plan.policy;
  const body = { release: (form.release ?? "").trim(), policy };
  if (form.rollout?.trim()) body.rollout = form.rollout.trim();
  if (Number(form.scale) > 1) body.time_scale = Number(form.scale);
  if (form.supersede) body.supersede = true;
  return body;
}

async function ask(app, form) {
  let body;
  try {
    body = bodyOf(app, form);
  } catch (error) {
    Object.assign(form, {
      error: { code: "invalid_payload", message: `the policy is no JSON: ${error.message}` },
      plan: null,
    });
    app.draw();
    return;
  }
  Object.assign(form, { isAsking: true, error: null, plan: null });
  app.draw();
  const { data, error } = await app.ask("plan", body, { isQuiet: true });
  Object.assign(form, { isAsking: false, error: error ?? null, plan: error ? null : data, body });
  app.draw();
}

function planOf(app, form) {
  const { plan, body } = form;
  if (plan.nothing_to_do) return h("p", { key: "plan", class: "notice" }, `Nothing to do: ${plan.reason}`);
  const lint = list(plan.lint);
  const errors = lint.filter((each) => each.severity === "error" && !each.silenced);
  const start = () => {
    const sent = {
      ...body,
      rollout: plan.rollout,
      plan: plan.plan_digest,
      ...(errors.length ? { ignore_lint: true } : {}),
    };
    app.dialog = {
      title: `start ${plan.rollout}`,
      text: `${plan.release} goes to ${grouped(plan.targets)} devices, the canary first.${errors.length ? ` In spite of ${errors.length} lint errors; it stands in the audit.` : ""}`,
      wantsReason: true,
      grave: errors.length > 0,
      typed: errors.length > 0 ? plan.rollout : null,
      button: "start",
      run: async ({ reason }) => {
        const answer = await app.ask("start", { ...sent, reason });
        if (!answer.error) app.go(`#/rollout/${plan.rollout}`);
        return answer;
      },
    };
    app.draw();
  };
  return h(
    "section",
    { key: "plan", class: "plan" },
    h(
      "h2",
      {},
      `${plan.rollout}: ${plan.release}`,
      h(
        "span",
        { class: "faint" },
        ` ${grouped(plan.targets)} devices, ${spaced(String(plan.strategy))}, ${clock(plan.estimated_seconds)} at least`,
      ),
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Wave", "Devices", "Share", "Soak"].map((name, index) =>
              h("th", { key: name, scope: "col", class: index ? "number" : "" }, name),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          list(plan.waves).map((wave) =>
            h(
              "tr",
              { key: wave.wave },
              h("th", { scope: "row" }, wave.wave),
              h("td", { class: "number" }, grouped(wave.devices)),
              h("td", { class: "number" }, `${Math.round((100 * wave.devices) / plan.targets)}%`),
              h("td", { class: "number" }, clock(wave.soak_seconds)),
            ),
          ),
        ),
      ),
    ),
    named("Canary, and why", plan.canary),
    named("Left out", plan.excluded),
    named("Not canary", plan.not_canary),
    list(plan.supersedes).length > 0 && h("p", { class: "wait" }, `! ends ${plan.supersedes.join(", ")} as superseded`),
    list(plan.warnings).map((each) => h("p", { key: each, class: "wait" }, `! ${each}`)),
    lint.length > 0 && h("h3", {}, `Lint: ${plan.lint_count ?? lint.length} findings`),
    h(
      "ul",
      { class: "lint" },
      lint.map((each, index) =>
        h(
          "li",
          { key: index, class: each.silenced ? "faint" : "" },
          h(
            "b",
            { class: each.silenced ? "" : ({ error: "bad", warning: "wait" }[each.severity] ?? "faint") },
            `${each.id} ${each.silenced ? "accepted" : each.severity}`,
          ),
          ` ${each.where}: ${each.message}`,
          h("small", {}, each.silenced ? `accepted: ${each.silenced}` : each.remedy),
        ),
      ),
    ),
    h(
      "p",
      { class: "buttons" },
      h(
        "button",
        { class: errors.length ? "grave" : "primary", disabled: app.link.state !== "on", onclick: start },
        errors.length ? "Start in spite of lint errors" : "Start this plan",
      ),
      h(
        "span",
        { class: "faint" },
        `plan ${String(plan.plan_digest).slice(0, 12)}; if the fleet changes meanwhile, the start is refused`,
      ),
    ),
  );
}

const list = (value) => (Array.isArray(value) ? value : []);

function named(title, items) {
  const entries = Object.entries(items && typeof items === "object" ? items : {});
  return (
    entries.length > 0 &&
    h(
      "details",
      { open: entries.length <= 12 },
      h("summary", {}, `${title} (${entries.length})`),
      h(
        "dl",
        {},
        entries.flatMap(([name, said]) => [
          h("dt", { key: `t-${name}` }, name),
          h("dd", { key: `d-${name}` }, String(said)),
        ]),
      ),
    )
  );
}
