// Waves and gates along the time, one row for each wave.

import { h } from "./dom.js";
import { timeOf } from "./numbers.js";
import { ticks, timelineOf } from "./timeline.js";
import { VERDICTS, phaseLook } from "./words.js";

export function timelineSection(app, rollout) {
  if (!rollout.status.waves.length) return h("section", { key: "timeline" });
  const line = timelineOf(rollout, app.now);
  const place = (at) => `${Math.min(100, Math.max(0, ((at - line.from) / (line.to - line.from)) * 100)).toFixed(2)}%`;
  const width = (from, to) => `${Math.max(0, ((to - from) / (line.to - line.from)) * 100).toFixed(2)}%`;
  const { tone } = phaseLook(rollout.status);
  const isLong = line.to - line.from > 86_400_000;
  const label = (at) =>
    isLong ? timeOf(at, NaN, { seconds: false }).slice(5) : timeOf(at, at, { seconds: line.to - line.from < 600_000 });
  return h(
    "section",
    { key: "timeline" },
    h("h2", {}, "Timeline"),
    h(
      "div",
      { class: "timeline" },
      line.rows.map((row) =>
        h(
          "div",
          { key: row.wave, class: row.isCurrent ? "line current" : "line" },
          h("span", { class: "name" }, row.wave),
          h(
            "span",
            { class: "track", role: "img", "aria-label": described(row, app.now) },
            row.began &&
              h("i", {
                class: `bar ${row.isCurrent && !row.gate ? tone : row.gate?.verdict === "pass" ? "good" : tone}`,
                style: { left: place(row.startedAt), width: width(row.startedAt, row.judgedAt) },
              }),
            row.sureUntil > row.judgedAt &&
              h("i", {
                class: `bar after ${row.isCurrent ? tone : "wait"}`,
                style: { left: place(row.judgedAt), width: width(row.judgedAt, row.sureUntil) },
              }),
            !line.isOver &&
              row.endsAt > row.sureUntil &&
              h("i", {
                class: "bar expected",
                style: { left: place(row.sureUntil), width: width(row.sureUntil, row.endsAt) },
              }),
            row.gate &&
              h(
                "i",
                {
                  class: `gate ${VERDICTS[row.gate.verdict]?.tone ?? "wait"}`,
                  style: { left: place(row.gate.at ?? row.endsAt) },
                  title: `${row.gate.gate}: ${row.gate.verdict} at ${timeOf(row.gate.at, app.now)}`,
                },
                VERDICTS[row.gate.verdict]?.sign ?? "?",
              ),
            !line.isOver && h("i", { class: "now", style: { left: place(app.now) } }),
          ),
        ),
      ),
      h(
        "div",
        { class: "line axis", "aria-hidden": "true" },
        h("span", { class: "name" }),
        h(
          "span",
          { class: "track" },
          ticks(line.from, line.to).map((at) =>
            h("i", { key: at, class: "tick", style: { left: place(at) } }, label(at)),
          ),
        ),
      ),
    ),
    !line.isOver && h("p", { class: "faint" }, "Solid: so far. Dashed: at least, if every gate passes at once."),
  );
}

function described(row, now) {
  if (!row.began) return `${row.wave}: not begun`;
  const gate = row.gate ? `; gate ${row.gate.verdict} at ${timeOf(row.gate.at, now)}` : "";
  return `${row.wave}: from ${timeOf(row.startedAt, now)} to ${row.isCurrent ? "now" : timeOf(row.endsAt, now)}${gate}`;
}
