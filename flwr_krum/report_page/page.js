// What is on the page besides, and its beginning.

/* ---------- the table of rounds, built when it is opened ---------- */

function roundsTable(details) {
  const run = RUNS[details.dataset.run];
  const hostile = new Set(run.byzantine ?? []);
  // Without a simulation nobody knows who attacks, and how good the model is.
  const left = new Set(run.byzantine ? [] : ["accuracy", "loss", "Byzantine selected"]);
  const evaluated = new Map(run.evaluated.map((t, i) => [t, i]));
  const columns = ["round", "accuracy", "loss", "accepted", "refused", "failed", "silent", "f in force", "selected", "Byzantine selected", "certificate", "guarantee", "sin(α)", "moved", "rule", "note"];
  const words = new Set([10, 11, 13, 14, 15]);
  const body = make("tbody");
  run.rounds.forEach((t, k) => {
    const cells = [...run.cells[k]];
    const count = (letters) => String(cells.filter((letter) => letters.includes(letter)).length);
    const i = evaluated.get(t);
    const values = [
      String(t),
      i === undefined ? "–" : fraction(run.accuracy[i]),
      i === undefined ? "–" : number(run.loss[i]),
      count("AS"), count("R"), count("F"), count("M"),
      String(run.f[k]),
      count("S"),
      String(cells.filter((letter, c) => letter === "S" && hostile.has(c)).length),
      VERDICTS[run.certificates[k]],
      VERDICTS[run.verdicts[k]],
      number(run.sines[k]),
      run.stepped[k] ? "yes" : "no",
      run.rule_names[run.rules[k]],
      k in run.notes ? run.note_texts[run.notes[k]] : "",
    ];
    const row = values.map((text, c) => make(c ? "td" : "th", { className: words.has(c) ? "word" : "", textContent: text }));
    columns.forEach((name, c) => left.has(name) && row.splice(c, 1, ""));
    row[0].scope = "row";
    body.append(make("tr", {}, ...row));
  });
  const heads = columns.map((text, c) => (left.has(text) ? "" : make("th", { className: words.has(c) ? "word" : "", scope: "col", textContent: text })));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  const caption = make("h4", { textContent: details.dataset.caption });
  const copy = make("button", { type: "button", className: "copy", textContent: "Copy" });
  const scroll = make("div", { className: "scroll", tabIndex: 0 }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", details.dataset.caption);
  fading(scroll);
  details.append(make("div", { className: "sheet" }, make("div", { className: "bar" }, caption, copy), scroll));
}

/* ---------- copying ---------- */

async function copyTable(button) {
  const rows = [...button.closest(".sheet").querySelectorAll("tr")];
  const text = rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t")).join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Some browsers keep the clipboard from pages that are files; this older way is still open.
    const field = make("textarea", { value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

/* ---------- the page ---------- */

function redraw() {
  for (const draw of redraws) draw();
}

function drawLegends() {
  const place = document.getElementById("runs-legend");
  if (place && RUNS.length > 1) {
    RUNS.forEach((run, r) => {
      const tick = make("input", { type: "checkbox", checked: true });
      tick.addEventListener("change", () => {
        if (tick.checked) shownRuns.add(r);
        else shownRuns.delete(r);
        redraw();
      });
      place.append(make("label", { className: runClass(r) }, tick, swatch(r), make("bdi", { textContent: run.label })));
    });
  }
  const letters = new Set(RUNS.flatMap((run) => run.cells.flatMap((row) => [...new Set(row)])));
  const captured = RUNS.some((run) => run.cells.some((row) => (run.byzantine ?? []).some((i) => row[i] === "S")));
  for (const letter of "SBARFMQ") {
    if (letter === "B" ? captured : letters.has(letter)) {
      document.getElementById("cells-legend").append(make("span", {}, box(`c${letter}`), STATES[letter]));
    }
  }
  if (RUNS.some((run) => run.byzantine?.length)) {
    const mark = svg("svg", { width: 12, height: 12, class: "names", "aria-hidden": "true" }, svg("text", { y: 10, class: "cB" }, "▲"));
    document.getElementById("cells-legend").append(make("span", {}, mark, "Byzantine client"));
  }
  for (const [letter, height] of Object.entries(VERDICT_HEIGHTS)) {
    const bar = svg("rect", { width: 16, height, y: 5 - height / 2, class: `v${letter}` });
    const mark = svg("svg", { width: 16, height: 10, "aria-hidden": "true" }, bar);
    document.getElementById("verdicts-legend").append(make("span", {}, mark, VERDICTS[letter]));
  }
  const bound = svg("line", { x1: 0, x2: 20, y1: 5, y2: 5, class: "bound" });
  const mark = svg("svg", { width: 20, height: 10, "aria-hidden": "true" }, bound);
  document.getElementById("verdicts-legend").append(make("span", {}, mark, "sin(α) = 1"));
}

const LAST_ROUND = Math.max(0, ...RUNS.flatMap((run) => run.rounds));

/** Why the curve of a run ends before those of the others, or before its own last evaluation; else nothing. */
function ending(run, ys) {
  const done = run.rounds.length ? run.rounds[run.rounds.length - 1] : 0;
  const wanted = run.wanted ?? done;
  const finite = ys.findLastIndex((y) => y !== null);
  if (ys.length && finite < ys.length - 1) return `is not finite after round ${finite < 0 ? 0 : run.evaluated[finite]}`;
  if (done < wanted) return `has ${done} of its ${wanted} rounds: it was cut short, or still goes on`;
  return done < LAST_ROUND ? `has ${done} rounds` : "";
}

function drawCharts() {
  const losses = RUNS.flatMap((run) => run.loss.filter((v) => v !== null));
  const wide = losses.length > 0 && Math.min(...losses) > 0 && Math.max(...losses) > 50 * Math.min(...losses);
  const curve = (name) => RUNS.map((run) => ({ xs: run.evaluated, ys: run[name], ends: ending(run, run[name]) }));
  if (RUNS.every((run) => run.byzantine)) {
    chart("accuracy", { curves: curve("accuracy"), format: fraction, smooth: true });
    chart("loss", { curves: curve("loss"), format: number, smooth: true, log: wide });
  }
  chart("sine", {
    curves: RUNS.map((run) => ({ xs: run.rounds, ys: run.sines, ends: ending(run, []) })),
    strips: RUNS.map((run) => run.verdicts),
    format: number,
    log: true,
    bound: 1,
  });
  if (RUNS.some((run) => run.evaluated.length > 3 * WINDOW)) {
    document.getElementById("smoothing").textContent =
      `Bold: running mean of ${WINDOW} evaluations. Thin: every evaluation.`;
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  const name = () => (button.textContent = isDark() ? "Light" : "Dark");
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    name();
    redraw();
  });
  name();
}

function setUpPrinting() {
  // The style sheet makes paper light; canvases must be painted so, and whole.
  matchMedia("print").addEventListener("change", (media) => {
    printing = media.matches;
    redraw();
  });
}

drawLegends();
drawCharts();
certificates();
for (const place of document.querySelectorAll(".heat")) heatMap(place, Number(place.dataset.run));
for (const details of document.querySelectorAll("details.rounds")) {
  details.addEventListener("toggle", () => roundsTable(details), { once: true });
}
for (const button of document.querySelectorAll(".copy")) button.hidden = false;
for (const box of document.querySelectorAll(".sheet .scroll")) fading(box);
document.addEventListener("click", (event) => {
  if (event.target.matches(".copy")) copyTable(event.target);
});
setUpTheme();
setUpPrinting();
