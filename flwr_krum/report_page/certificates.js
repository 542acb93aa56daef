// Certificates: how many liars each round survives, and kappa over their number in one round.

const LEAST_KAPPA = 1e-3; // what is smaller is drawn as this much: 3 % of a spread
const shownCertified = new Set(CERTIFIED.keys());
const certifiedClass = (s) => runClass(CERTIFIED[s].colour);
const allCertified = [...new Set(CERTIFIED.flatMap((source) => source.rounds))].sort((a, b) => a - b);

const certifiedLine = (s, value) => entry(certifiedClass(s), CERTIFIED[s].label, value);

function atMost(kappa) {
  return kappa === null || kappa === undefined ? "unbounded" : `at most ${number(kappa)}`;
}

/** What a certificate of a source says in short. */
function survivesText(source, i) {
  const verdict = VERDICTS[source.verdicts[i]];
  return source.survives[i] < 0 ? verdict : `${verdict}, up to ${source.survives[i]} liars`;
}

function certifiedLegend(place) {
  CERTIFIED.forEach((source, s) => {
    const tick = make("input", { type: "checkbox", checked: true });
    tick.addEventListener("change", () => {
      if (tick.checked) shownCertified.add(s);
      else shownCertified.delete(s);
      redraw();
    });
    const name = make("bdi", { textContent: source.label });
    place.append(make("label", { className: certifiedClass(s) }, tick, swatch(source.colour), name));
  });
}

/** A strip per source: a bar per round, as high as it survives liars, in the verdict's colour. */
function survivesStrips(choose) {
  const [row, bars, label] = [44, 24, 14];

  function draw(width) {
    const [left, right] = [28, width - 10];
    const sources = [...shownCertified];
    const height = sources.length * row + 26;
    const element = svg("svg", { height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const [first, last] = [allCertified[0], allCertified[allCertified.length - 1]];
    const x = (t) => left + ((t - first + 0.5) / (last - first + 1)) * (right - left);
    const half = (0.5 / (last - first + 1)) * (right - left);
    sources.forEach((s, k) => strip(element, CERTIFIED[s], s, k * row, x, half, left, right));
    const steps = niceTicks(first, Math.max(first + 1, last), clamp(width / 90, 3, 10));
    for (const t of steps.filter((step) => Number.isInteger(step) && step <= last)) {
      element.append(svg("text", { x: x(t), y: height - 6, "text-anchor": "middle" }, String(t)));
    }
    return { element, places: allCertified.map(x), bottom: height - 22 };
  }

  function strip(element, source, s, top, x, half, left, right) {
    const most = Math.max(1, ...source.curves.map((curve) => curve.length - 1), ...source.f);
    const base = top + label + bars;
    const tall = (k) => ((k + 1) / (most + 1)) * bars;
    const mark = { x1: left, x2: left + 18, y1: top + 8, y2: top + 8, class: `curve ${certifiedClass(s)}` };
    element.append(
      svg("line", mark),
      svg("text", { x: left + 24, y: top + 11, class: "name" }, source.label),
      svg("line", { x1: left, x2: right, y1: base, y2: base, class: "grid" }),
      svg("text", { x: left - 6, y: base - bars + 8, "text-anchor": "end" }, String(most)),
      svg("text", { x: left - 6, y: base, "text-anchor": "end" }, "0"),
    );
    const same = (i, j) => ["survives", "verdicts", "f"].every((name) => source[name][i] === source[name][j])
      && source.rounds[j] - source.rounds[j - 1] === 1;
    for (let i = 0, j; i < source.rounds.length; i = j) {
      for (j = i + 1; j < source.rounds.length && same(i, j); ) j++;
      const [from, to] = [x(source.rounds[i]) - half, x(source.rounds[j - 1]) + half];
      const h = Math.max(2, tall(source.survives[i]));
      const wanted = base - tall(source.f[i]);
      element.append(
        svg("rect", { x: from, y: base - h, width: Math.max(0.5, to - from), height: h, class: `v${source.verdicts[i]}`, "shape-rendering": "crispEdges" }),
        svg("line", { x1: from, x2: to, y1: wanted, y2: wanted, class: "bound" }),
      );
    }
  }

  function read(index) {
    const t = allCertified[index];
    const lines = [line(`round ${t}`, "dim")];
    for (const s of shownCertified) {
      const i = CERTIFIED[s].rounds.indexOf(t);
      if (i >= 0) lines.push(certifiedLine(s, survivesText(CERTIFIED[s], i)));
    }
    return lines;
  }

  readable(document.getElementById("survives"), "rounds", { draw, read, choose });
}

/** Kappa over the number of liars in one round, with the floor and the limit. */
function kappaCurves(roundOf) {
  const found = () =>
    [...shownCertified]
      .map((s) => ({ s, source: CERTIFIED[s], i: CERTIFIED[s].rounds.indexOf(roundOf()) }))
      .filter(({ source, i }) => i >= 0 && source.curves[i].length);

  function draw(width) {
    const height = clamp(width * 0.42, 200, 300) + 40;
    const [left, right, top, bottom] = [46, width - 62, 10, height - 40];
    const element = svg("svg", { height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const curves = found();
    const most = Math.max(1, ...curves.map(({ source, i }) => source.curves[i].length - 1));
    const x = (k) => left + (k / most) * (right - left);
    const places = Array.from({ length: most + 1 }, (_, k) => x(k));
    for (const k of niceTicks(0, most, clamp(width / 60, 3, 12)).filter(Number.isInteger)) {
      element.append(svg("text", { x: x(k), y: bottom + 16, "text-anchor": "middle" }, String(k)));
    }
    element.append(svg("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, "liars among the accepted"));
    if (!curves.length) {
      const where = { x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle" };
      element.append(svg("text", where, "no curve in this round"));
      return { element, places: [], bottom };
    }
    const { source, i } = curves[0];
    const n = source.n[i];
    const floor = places.map((_, k) => (k && 2 * k < n ? k / (n - 2 * k) : null));
    const drawn = (kappas) => kappas.map((v) => (v === null ? null : Math.max(v, LEAST_KAPPA)));
    const values = curves.flatMap((curve) => drawn(curve.source.curves[curve.i])).filter((v) => v !== null);
    const axis = logAxis([...values, ...floor.filter((v) => v), source.limits[i]], 7);
    const y = (v) => bottom - axis.place(v) * (bottom - top);
    for (const tick of axis.ticks) {
      element.append(
        svg("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
        svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick)),
      );
    }
    const limit = y(source.limits[i]);
    const lowest = floor.reduce((last, v, k) => (v ? k : last), 0);
    const apart = lowest ? y(floor[lowest]) - limit : 99;
    element.append(
      svg("line", { x1: left, x2: right, y1: limit, y2: limit, class: "limit" }),
      svg("text", { x: right + 6, y: limit + (Math.abs(apart) < 12 && apart < 0 ? 12 : 4) }, `limit ${tickText(source.limits[i])}`),
      svg("line", { x1: x(source.f[i]), x2: x(source.f[i]), y1: top, y2: bottom, class: "bound" }),
      svg("text", { x: x(source.f[i]) + 4, y: top + 8 }, `f = ${source.f[i]}`),
    );
    if (lowest) {
      element.append(
        svg("path", { d: path(places, floor.map((v) => v && y(v))), class: "floor" }),
        svg("text", { x: right + 6, y: y(floor[lowest]) + (Math.abs(apart) < 12 && apart >= 0 ? 14 : 4) }, "floor"),
      );
    }
    for (const curve of curves) {
      const heights = drawn(curve.source.curves[curve.i]).map((v) => (v === null ? null : y(v)));
      element.append(svg("path", { d: path(places, heights), class: `curve ${certifiedClass(curve.s)}` }));
      heights.forEach((h, k) => {
        if (h !== null) element.append(svg("circle", { cx: places[k], cy: h, r: 2.2, class: `dot ${certifiedClass(curve.s)}` }));
      });
    }
    return { element, places, bottom };
  }

  function read(k) {
    const lines = [line(`round ${roundOf()}: if ${k} of the accepted lied`, "dim")];
    for (const { s, source, i } of found()) lines.push(certifiedLine(s, `kappa ${atMost(source.curves[i][k])}`));
    return lines;
  }

  return readable(document.getElementById("kappa"), "numbers of liars", { draw, read });
}

function certificates() {
  if (!CERTIFIED.length) return;
  document.getElementById("certificates").hidden = false;
  if (CERTIFIED.length > 1) certifiedLegend(document.getElementById("certified-legend"));
  const slider = document.getElementById("round");
  slider.max = allCertified.length - 1;
  slider.value = slider.max;
  const output = document.getElementById("round-shown");
  const roundOf = () => allCertified[Number(slider.value)];
  const redrawKappa = kappaCurves(roundOf);
  const moved = () => {
    output.textContent = `round ${roundOf()}`;
    slider.setAttribute("aria-valuetext", output.textContent);
    redrawKappa();
  };
  slider.addEventListener("input", moved);
  survivesStrips((index) => {
    slider.value = index;
    moved();
  });
  moved();
}
