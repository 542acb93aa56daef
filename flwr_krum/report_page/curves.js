// Curves over rounds: accuracy, loss, and sin(alpha) with its verdicts.

/** An SVG path through the points; what is no number interrupts it. */
function path(xs, ys) {
  const parts = [];
  let open = false;
  for (let i = 0; i < xs.length; i++) {
    if (ys[i] === null) open = false;
    else {
      parts.push(`${open ? "L" : "M"}${xs[i].toFixed(1)} ${ys[i].toFixed(1)}`);
      open = true;
    }
  }
  return parts.join("");
}

/** The mean of the evaluations around each one: as many before it as after it. */
function runningMean(values) {
  return values.map((value, i) => {
    const reach = Math.min((WINDOW - 1) / 2, i, values.length - 1 - i);
    const around = values.slice(i - reach, i + reach + 1).filter((v) => v !== null);
    return value === null ? null : around.reduce((a, b) => a + b, 0) / around.length;
  });
}

/**
 * A chart of one curve per run over rounds.
 *
 * curves: one {xs, ys, ends} per run, null where there is no number, and why it ends early; format: how the tip shows a value;
 * log: whether the axis is; smooth: whether a running mean is drawn over the raw curve; bound: a
 * line across; strips: per run the verdicts of its rounds, drawn above the plot.
 */
function chart(id, { curves, format, log, smooth, bound, strips }) {
  const rounds = [...new Set(curves.flatMap((curve) => curve.xs))].sort((a, b) => a - b);
  const means = curves.map((curve) => (smooth ? runningMean(curve.ys) : null));

  function draw(width) {
    const stripes = strips ? [...shownRuns].filter((r) => strips[r]) : [];
    const top = 8 + 16 * stripes.length + (stripes.length ? 14 : 0);
    const height = top + clamp(width * 0.42, 170, 260) + 24;
    const [left, right, bottom] = [46, width - 10, height - 24];
    const visible = curves.flatMap((curve, r) => (shownRuns.has(r) ? curve.ys : []));
    const values = visible.filter((v) => v !== null && !(log && v <= 0));
    const last = rounds.length ? rounds[rounds.length - 1] : 1;
    const first = rounds.length ? rounds[0] : 0;
    const x = (t) => left + ((t - first) / Math.max(1, last - first)) * (right - left);
    const picture = svg("svg", { height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const steps = niceTicks(first, Math.max(first + 1, last), clamp(width / 90, 3, 10));
    for (const t of steps.filter(Number.isInteger)) {
      picture.append(svg("text", { x: x(t), y: height - 6, "text-anchor": "middle" }, String(t)));
    }
    stripes.forEach((r, row) => picture.append(...strip(r, x, 8 + 16 * row, left)));
    if (values.length) {
      const axis = (log ? logAxis : linearAxis)(bound ? [...values, bound] : values, 7);
      const y = (v) => bottom - axis.place(v) * (bottom - top);
      for (const tick of axis.ticks) {
        picture.append(
          svg("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
          svg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick)),
        );
      }
      if (bound) {
        picture.append(svg("line", { x1: left, x2: right, y1: y(bound), y2: y(bound), class: "bound" }));
      }
      for (const r of shownRuns) drawCurve(picture, r, x, y);
    } else {
      const where = { x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle" };
      picture.append(svg("text", where, "not known in any round"));
    }
    return { element: picture, places: rounds.map(x), bottom };
  }

  function drawCurve(picture, r, x, y) {
    const { xs, ys } = curves[r];
    const places = xs.map(x);
    const heights = (list) => list.map((v) => (v === null || (log && v <= 0) ? null : y(v)));
    const many = smooth && ys.length > 3 * WINDOW;
    const main = many ? means[r] : ys;
    if (many) picture.append(svg("path", { d: path(places, heights(ys)), class: `raw ${runClass(r)}` }));
    picture.append(svg("path", { d: path(places, heights(main)), class: `curve ${runClass(r)}` }));
    heights(main).forEach((h, i, all) => {
      const alone = h !== null && (all[i - 1] ?? null) === null && (all[i + 1] ?? null) === null;
      if (alone) picture.append(svg("circle", { cx: places[i], cy: h, r: 2, class: `dot ${runClass(r)}` }));
    });
  }

  /** The verdicts of a run as a row of bars; neighbours of one verdict are one bar. */
  function strip(r, x, y, left) {
    const { xs } = curves[r];
    const parts = [];
    if (RUNS.length > 1) {
      parts.push(svg("line", { x1: left - 30, x2: left - 10, y1: y + 5, y2: y + 5, class: `curve ${runClass(r)}` }));
    }
    const edge = (i) => (i === 0 ? x(xs[0]) : i === xs.length ? x(xs[i - 1]) : (x(xs[i - 1]) + x(xs[i])) / 2);
    for (let i = 0, j; i < xs.length; i = j) {
      const verdict = strips[r][i];
      for (j = i + 1; j < xs.length && strips[r][j] === verdict; ) j++;
      const h = VERDICT_HEIGHTS[verdict];
      const bar = { x: edge(i), y: y + 5 - h / 2, width: Math.max(1, edge(j) - edge(i)), height: h };
      if (h) parts.push(svg("rect", { ...bar, class: `v${verdict}` }));
    }
    return parts;
  }

  function read(index) {
    const t = rounds[index];
    const lines = [line(`round ${t}`, "dim")];
    for (const r of shownRuns) {
      const { xs, ys } = curves[r];
      const i = xs.length ? nearest(xs, t) : -1;
      if (i < 0 || xs[i] !== t) continue;
      const verdict = strips ? `${VERDICTS[strips[r][i]]}, sin(α) ` : "";
      const unknown = strips && strips[r][i] === "n" && ys[i] === null;
      lines.push(keyLine(r, verdict + (unknown ? "beyond measure" : format(ys[i]))));
      const reason = strips && RUNS[r].reasons[i];
      if (strips && reason !== undefined) lines.push(line(RUNS[r].note_texts[reason], "dim"));
    }
    return lines;
  }

  const figure = document.getElementById(id);
  const reasons = make("p", { className: "aside ends" });
  function say() {
    const told = [...shownRuns].filter((r) => curves[r].ends);
    reasons.textContent = told.map((r) => `${RUNS[r].label} ${curves[r].ends}.`).join(" ");
  }
  readable(figure, "rounds", { draw, read });
  figure.append(reasons);
  redraws.push(say);
  say();
}
