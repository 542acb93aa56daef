// The script of the report: parts.js, curves.js, certificates.js, maps.js and page.js, inlined as one module.
// Texts reach the page as text nodes only, never as HTML.

const { runs: RUNS, certified: CERTIFIED } = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 7;
const WINDOW = 15; // evaluations in a running mean
const STATES = {
  S: "selected",
  B: "selected, Byzantine",
  A: "accepted, not selected",
  R: "refused",
  F: "failed",
  M: "silent",
  Q: "in quarantine",
  ".": "not asked",
};
const VERDICTS = { h: "holds", n: "does not hold", u: "cannot be known", "-": "not judged" };
const VERDICT_HEIGHTS = { h: 10, n: 6, u: 2 }; // the verdict can be read without its colour

const shownRuns = new Set(RUNS.keys());
const redraws = [];
let printing = false;

/* ---------- small parts ---------- */

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const runClass = (r) => `c${r % COLOURS} d${Math.floor(r / COLOURS) % 4}`;

function dash(className) {
  const line = svg("line", { x1: 0, x2: 20, y1: 5, y2: 5, class: `curve ${className}` });
  return svg("svg", { width: 20, height: 10, "aria-hidden": "true" }, line);
}

const swatch = (r) => dash(runClass(r));

function box(className) {
  const rect = svg("rect", { width: 10, height: 10, rx: 2, class: className });
  return svg("svg", { width: 10, height: 10, "aria-hidden": "true" }, rect);
}

function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value; // "∞"
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2);
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

const fraction = (value) => (value === null ? "–" : value.toFixed(4));
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** The index of the entry of a sorted list that lies nearest to x. */
function nearest(sorted, x) {
  let low = 0;
  let high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle;
    else high = middle;
  }
  return x - sorted[low] <= sorted[high] - x ? low : high;
}

/* ---------- the tip: one for all pictures, also read out by screen readers ---------- */

const tip = document.getElementById("tip");

function showTip(x, y, lines) {
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth - 8 ? x - 14 - width : x + 14;
  const top = y + 14 + height > innerHeight - 8 ? y - 14 - height : y + 14;
  tip.style.left = `${clamp(left, 8, Math.max(8, innerWidth - width - 8))}px`;
  tip.style.top = `${clamp(top, 8, Math.max(8, innerHeight - height - 8))}px`;
}

const hideTip = () => (tip.hidden = true);
const line = (text, className = "") =>
  make("p", { className }, make("bdi", { textContent: text }));

/** A line of the tip: the mark of a curve, its name, and a value. */
function entry(className, name, value) {
  const label = make("bdi", { textContent: name });
  const shown = make("span", { className: "value", textContent: value });
  return make("p", { className: "key" }, dash(className), label, shown);
}

const keyLine = (r, value) => entry(runClass(r), RUNS[r].label, value);

/* ---------- axes ---------- */

function niceTicks(low, high, count) {
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((k) => k * unit).find((s) => s >= rough * (1 - 1e-9));
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    ticks.push(Number((k * step).toPrecision(12)));
  }
  return ticks;
}

function linearAxis(values, count) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) [low, high] = [low - 0.05 * (Math.abs(low) || 1), high + 0.05 * (Math.abs(high) || 1)];
  const margin = 0.04 * (high - low);
  [low, high] = [low - margin, high + margin];
  return { place: (v) => (v - low) / (high - low), ticks: niceTicks(low, high, count) };
}

function logAxis(values, count) {
  const low = Math.floor(Math.log10(Math.min(...values)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9));
  const step = Math.ceil((high - low) / count);
  const ticks = [];
  for (let power = low; power <= high; power += step) ticks.push(10 ** power);
  return { place: (v) => (Math.log10(v) - low) / (high - low), ticks };
}

function tickText(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e4 || size < 1e-3)) {
    const power = Math.round(Math.log10(size));
    if (Math.abs(size / 10 ** power - 1) < 1e-9) return `1e${power}`;
  }
  return String(Number(value.toPrecision(3)));
}

/* ---------- plots ---------- */

/**
 * A plot that is read with the pointer or the arrow keys.
 *
 * draw(width) returns the picture, its height, and where on it each of the values lies; read(index)
 * returns the lines of the tip; choose(index), where given, is told of clicks and of the keys.
 */
function readable(figure, what, { draw, read, choose }) {
  const plot = make("div", { className: "plot", tabIndex: 0 });
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}; the arrow keys read the ${what}`);
  figure.append(plot);
  let at = null;
  let places = [];
  let cursor = null;

  function show(index, x, y) {
    at = clamp(index, 0, places.length - 1);
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, places[at]);
    cursor.setAttribute("visibility", "visible");
    showTip(x, y, read(at));
  }

  function leave() {
    at = null;
    cursor?.setAttribute("visibility", "hidden");
    hideTip();
  }

  const under = (event) => nearest(places, event.clientX - plot.getBoundingClientRect().left);
  plot.addEventListener("pointermove", (event) => {
    if (places.length) show(under(event), event.clientX, event.clientY);
  });
  plot.addEventListener("click", (event) => {
    if (places.length) choose?.(under(event));
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    const last = places.length - 1;
    const now = at ?? (event.key === "ArrowLeft" ? last + 1 : -1);
    const next = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 10, PageDown: now + 10, Home: 0, End: last };
    if (event.key === "Escape") leave();
    if (!(event.key in next) || !places.length) return;
    event.preventDefault();
    const { left, top } = plot.getBoundingClientRect();
    const index = clamp(next[event.key], 0, last);
    choose?.(index);
    show(index, left + places[index], top + 20);
  });

  function redrawn() {
    const picture = draw(Math.max(240, plot.clientWidth));
    places = picture.places;
    cursor = svg("line", { y1: 4, y2: picture.bottom, class: "cursor", visibility: "hidden" });
    picture.element.append(cursor);
    plot.replaceChildren(picture.element);
  }

  redraws.push(redrawn);
  new ResizeObserver(redrawn).observe(plot);
  redrawn();
  return redrawn;
}
