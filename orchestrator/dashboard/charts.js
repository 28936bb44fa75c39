// A device's health over time, drawn by uPlot.

import { h } from "./dom.js";
import { seriesOf } from "./series.js";

const HEIGHT = 120;
const CHARTS = [
  ["errors", "Errors, % of requests"],
  ["requests", "Requests per second"],
  ["p95", "Latency p95, ms"],
  ["memory", "Memory, MB"],
  ["cpu", "Processor, % of a core"],
  ["temperature", "Temperature, °C"],
];

export function charts(samples) {
  const series = seriesOf(samples);
  const known = CHARTS.filter(([name]) => series[name].some((each) => each !== null));
  if (series.seconds.length < 2 || !known.length)
    return h("p", { class: "empty" }, "Charts begin with the second sample.");
  return h(
    "div",
    { class: "charts" },
    known.map(([name, title]) =>
      h(
        "figure",
        { key: name },
        h("figcaption", {}, title, " ", h("b", {}, lastOf(series[name]))),
        h("div", {
          leaf: true,
          class: "chart",
          role: "img",
          "aria-label": `${title}: now ${lastOf(series[name])}`,
          hook: (node) => draw(node, [series.seconds, series[name]]),
        }),
      ),
    ),
  );
}

function lastOf(values) {
  const last = values.findLast((each) => each !== null);
  return last === undefined ? "–" : String(Number(last.toPrecision(3)));
}

function draw(node, data) {
  const width = node.clientWidth;
  if (width === 0) return;
  const style = getComputedStyle(document.documentElement);
  const [ink, line, accent] = ["--faint", "--line", "--busy"].map((name) => style.getPropertyValue(name).trim());
  if (node.chart && node.ink !== ink) {
    node.chart.destroy();
    node.chart = null;
  }
  if (!node.chart) {
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const range = (_chart, low, high) => (low === null ? [0, 1] : [Math.min(0, low), high > 0 ? high * 1.15 : 1]);
    node.ink = ink;
    node.chart = new uPlot(
      {
        width,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false },
        scales: { y: { range } },
        axes: [
          {
            ...axis,
            size: 24,
            values: [
              [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
              [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
            ].reverse(),
          },
          { ...axis, size: 46 },
        ],
        series: [{}, { stroke: accent, width: 1.5, spanGaps: false, points: { show: false } }],
      },
      data,
      node,
    );
  } else {
    if (node.chart.width !== width) node.chart.setSize({ width, height: HEIGHT });
    node.chart.setData(data);
  }
}
