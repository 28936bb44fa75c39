// Many devices as small squares on one canvas. Each place has a shape of its own, so the picture reads without colour.

import { h } from "./dom.js";
import { PLACES } from "./words.js";

const NAMES_SHOWN = 60;
const tones = new Map();

/** Forget the colours; they are asked for again, for example when the screen turns dark. */
export function forgetTones() {
  tones.clear();
  for (const canvas of document.querySelectorAll("canvas.cells")) {
    canvas.drawn = null;
    draw(canvas);
  }
}

/**
 * Describe a matrix of `cells`, each `{place, id}`; `id` may be missing.
 * @param options `size` of a square in pixels, `label` in words, `open(id)` when somebody chooses a device.
 */
export function matrix(cells, { size = 12, label, open = null, key }) {
  const choose = open && ((canvas, index) => canvas.cells[index]?.id && open(canvas.cells[index].id));
  return h("canvas", {
    key,
    class: open ? "cells open" : "cells",
    role: "img",
    "aria-label": label,
    tabindex: open ? 0 : null,
    onclick: choose && ((event) => choose(event.target, at(event.target, event.offsetX, event.offsetY))),
    onpointermove: open && ((event) => point(event.target, at(event.target, event.offsetX, event.offsetY))),
    onkeydown: open && ((event) => steer(event, choose)),
    onblur: open && ((event) => point(event.target, -1)),
    hook: (canvas) => {
      canvas.cells = cells;
      canvas.size = size;
      draw(canvas);
    },
  });
}

function draw(canvas) {
  const width = canvas.parentElement?.clientWidth ?? 0;
  if (width === 0) return;
  const { cells, size } = canvas;
  const pitch = size + Math.max(2, Math.round(size / 6));
  canvas.columns = Math.max(1, Math.floor(width / pitch));
  canvas.pitch = pitch;
  const scale = window.devicePixelRatio || 1;
  const known = canvas.drawn;
  if (
    known &&
    known.width === width &&
    known.scale === scale &&
    known.cursor === canvas.cursor &&
    same(known.cells, cells)
  )
    return;
  canvas.drawn = { cells, width, scale, cursor: canvas.cursor };
  const rows = Math.max(1, Math.ceil(cells.length / canvas.columns));
  const wide = Math.min(canvas.columns, Math.max(1, cells.length)) * pitch;
  canvas.width = Math.ceil(wide * scale);
  canvas.height = Math.ceil(rows * pitch * scale);
  canvas.style.setProperty("width", `${wide}px`);
  canvas.style.setProperty("height", `${rows * pitch}px`);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  cells.forEach((cell, index) => {
    const x = (index % canvas.columns) * pitch;
    const y = Math.floor(index / canvas.columns) * pitch;
    square(pen, cell.place, x, y, size);
    if (index === canvas.cursor) frame(pen, x, y, size);
  });
}

function same(one, other) {
  return (
    one === other ||
    (one.length === other.length &&
      one.every((cell, index) => cell.place === other[index].place && cell.id === other[index].id))
  );
}

function frame(pen, x, y, size) {
  pen.strokeStyle = tone("ink");
  pen.lineWidth = 2;
  pen.strokeRect(x + 0.5, y + 0.5, size, size);
}

/** Draw one square; shapes are told apart from nine pixels on. */
export function square(pen, place, x, y, size) {
  const look = PLACES[place] ?? PLACES.unknown;
  const color = tone(look.tone);
  pen.fillStyle = color;
  pen.strokeStyle = color;
  pen.lineWidth = Math.max(1.5, size / 7);
  const inset = pen.lineWidth / 2;
  const outline = () => pen.strokeRect(x + inset, y + inset, size - 2 * inset, size - 2 * inset);
  const thin = () => {
    pen.lineWidth = 1;
    pen.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
  };
  const dot = () => pen.fillRect(x + size * 0.3, y + size * 0.3, size * 0.4, size * 0.4);
  const line = (...points) => {
    pen.beginPath();
    points.forEach(([across, down], index) =>
      index ? pen.lineTo(x + across * size, y + down * size) : pen.moveTo(x + across * size, y + down * size),
    );
  };
  switch (look.shape) {
    case "full":
      pen.fillRect(x, y, size, size);
      break;
    case "half":
      outline();
      pen.fillRect(x, y + size / 2, size, size / 2);
      break;
    case "ring":
      pen.fillRect(x, y, size, size);
      pen.fillStyle = tone("panel");
      pen.fillRect(x + size / 3, y + size / 3, size / 3, size / 3);
      break;
    case "hollow":
      thin();
      break;
    case "pupil":
      thin();
      dot();
      break;
    case "bar":
      outline();
      pen.fillRect(x + size * 0.4, y, size * 0.2, size);
      break;
    case "dash":
      pen.fillRect(x + size / 5, y + size * 0.42, size * 0.6, Math.max(1.5, size * 0.16));
      break;
    case "slash":
      outline();
      line([0, 1], [1, 0]);
      pen.stroke();
      break;
    case "cross":
      pen.fillRect(x, y, size, size);
      pen.strokeStyle = tone("panel");
      line([0.25, 0.25], [0.75, 0.75]);
      pen.stroke();
      line([0.75, 0.25], [0.25, 0.75]);
      pen.stroke();
      break;
    case "diamond":
      line([0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]);
      pen.fill();
      break;
    case "triangle":
      line([1, 0], [1, 1], [0, 0.5]);
      pen.fill();
      break;
    case "triangle-hollow":
      line([0.92, 0.1], [0.92, 0.9], [0.1, 0.5]);
      pen.closePath();
      pen.stroke();
      break;
    default:
      dot();
  }
}

function tone(name) {
  if (!tones.has(name))
    tones.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() || "#888");
  return tones.get(name);
}

function at(canvas, x, y) {
  const column = Math.floor(x / canvas.pitch);
  return column < canvas.columns ? Math.floor(y / canvas.pitch) * canvas.columns + column : -1;
}

function point(canvas, index) {
  const cell = canvas.cells[index];
  canvas.title = cell?.id ? `${cell.id}: ${PLACES[cell.place].words}` : "";
  if (canvas.cursor === index) return;
  canvas.cursor = index;
  draw(canvas);
}

function steer(event, choose) {
  const canvas = event.target;
  const now = Math.max(0, canvas.cursor ?? 0);
  const steps = {
    ArrowRight: 1,
    ArrowLeft: -1,
    ArrowDown: canvas.columns,
    ArrowUp: -canvas.columns,
    Home: -now,
    End: canvas.cells.length,
  };
  if (event.key === "Enter") choose(canvas, now);
  else if (event.key in steps) {
    point(
      canvas,
      Math.min(canvas.cells.length - 1, Math.max(0, (canvas.cursor ?? -1) < 0 ? 0 : now + steps[event.key])),
    );
    canvas.setAttribute("aria-description", canvas.title);
  } else return;
  event.preventDefault();
}

/** Describe what the shapes mean, with how many there are of each: `[[place, count], …]`. */
export function legend(counted) {
  return h(
    "ul",
    { class: "legend" },
    counted.map(([place, size]) =>
      h("li", { key: place }, swatch(place), ` ${PLACES[place].words} `, h("b", {}, size)),
    ),
  );
}

/** Describe one square beside a word. */
export function swatch(place) {
  return h("canvas", {
    class: "swatch cells",
    "aria-hidden": "true",
    hook: (canvas) => {
      canvas.cells = [{ place }];
      canvas.size = 11;
      draw(canvas);
    },
  });
}

/** Say in words what a matrix shows. */
export function described(what, counted, cells = []) {
  const worst = cells
    .filter((cell) => cell.id && PLACES[cell.place].tone === "bad")
    .slice(0, NAMES_SHOWN)
    .map((cell) => cell.id);
  const named = worst.length ? `; in trouble: ${worst.join(", ")}` : "";
  return `${what}: ${counted.map(([place, size]) => `${size} ${PLACES[place].words}`).join(", ") || "none"}${named}`;
}

/** Count the cells of each place, in the order in which places are told. */
export function tally(cells) {
  const found = new Map();
  for (const cell of cells) found.set(cell.place, (found.get(cell.place) ?? 0) + 1);
  return Object.keys(PLACES)
    .filter((place) => found.has(place))
    .map((place) => [place, found.get(place)]);
}
