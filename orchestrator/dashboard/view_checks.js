// Checks with their numbers: value against limit, as text and as a bar that ends at the limit.

import { h } from "./dom.js";
import { checkFill, checkLimit, checkValue, grouped } from "./numbers.js";
import { VERDICTS, spaced } from "./words.js";

export function checkTable(checks) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: "checks" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["Check", "Observed", "", "Limit", "Baseline", "Samples", "Verdict"].map((name, index) =>
            h(
              "th",
              { key: index, scope: "col", class: { 1: "number", 4: "number wide", 5: "number wide" }[index] ?? "" },
              name,
            ),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        checks.map((check, index) => row(check, `${check.check}-${index}`)),
      ),
    ),
  );
}

function row(check, key) {
  const look = VERDICTS[check.verdict] ?? VERDICTS.inconclusive;
  return h(
    "tr",
    { key, title: check.why },
    h("th", { scope: "row" }, spaced(check.check), check.dryRun && h("span", { class: "faint" }, " (dry run)")),
    h("td", { class: "number" }, checkValue(check, check.observed)),
    h("td", {}, gauge(checkFill(check), look.tone)),
    h("td", {}, checkLimit(check)),
    h("td", { class: "number wide" }, checkValue(check, check.baseline)),
    h("td", { class: "number wide" }, grouped(check.samples)),
    h(
      "td",
      { class: look.tone },
      `${look.sign} ${check.verdict}`,
      check.verdict !== "pass" && check.why && h("small", {}, check.why),
    ),
  );
}

/** A bar from the best (left) to the limit (the mark), and beyond. */
function gauge(fill, tone) {
  if (fill === null) return h("span", { class: "faint" }, "–");
  const share = Math.min(1, fill / 1.5) * 100;
  const words = `${Math.round(fill * 100)}% of the way to the limit`;
  return h(
    "span",
    { class: "gauge", role: "img", "aria-label": words, title: words },
    h("i", { class: `fill ${tone}`, style: { width: `${Math.max(2, share)}%` } }),
    h("i", { class: "mark" }),
  );
}
