// Heat maps of clients x rounds.

function colours() {
  const probe = make("span");
  document.body.append(probe);
  const names = { S: "selected", B: "captured", A: "accepted", R: "refused", F: "failed", M: "silent", Q: "quarantined", text: "muted" };
  const found = {};
  for (const [letter, name] of Object.entries(names)) {
    probe.style.color = `var(--${name})`;
    found[letter] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

const selections = (run) => run.clients.map((_, i) => run.cells.reduce((sum, row) => sum + (row[i] === "S"), 0));

/** The greatest share of rounds in which a client was selected, in any run: the bars of all maps are on its scale. */
const GREATEST_SHARE = Math.max(0, ...RUNS.flatMap((run) => selections(run).map((count) => count / (run.rounds.length || 1)))) || 1;

function heatMap(place, r) {
  const run = RUNS[r];
  const [n, rounds] = [run.clients.length, run.rounds.length];
  if (!rounds) {
    place.append(line("No round is over yet.", "aside"));
    return;
  }
  const hostile = new Set(run.byzantine ?? []);
  const state = (t, i) => (run.cells[t][i] === "S" && hostile.has(i) ? "B" : run.cells[t][i]);
  const counts = selections(run);
  const rowHeight = n <= 25 ? 16 : n <= 50 ? 11 : n <= 120 ? 7 : 4;
  const gap = rowHeight > 6 ? 1 : 0;
  const tall = n * rowHeight;
  const canvas = make("canvas");
  const here = make("div", { className: "here", hidden: true });
  const spread = make("div", { className: "spread" }, canvas, here);
  const scroll = make("div", { className: "scroll" }, spread);
  fading(scroll);
  const names = svg("svg", { class: "names", height: tall, "aria-hidden": "true" });
  const shares = svg("svg", { class: "shares", width: 78, height: tall, "aria-hidden": "true" });
  place.append(names, scroll, shares);
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", `Selections of ${run.label}: ${n} clients in ${rounds} rounds; the arrow keys read the cells`);
  let cell = 1; // pixels per round
  let at = null; // {t, i}

  function drawNames() {
    const every = rowHeight >= 11 ? 1 : rowHeight >= 7 ? 5 : 10;
    let width = 0;
    names.replaceChildren();
    run.clients.forEach((client, i) => {
      const marked = hostile.has(i);
      if (i % every && !(marked && !hostile.has(i - 1))) return;
      const name = client.length > 12 ? `${client.slice(0, 11)}…` : client;
      const text = marked ? `▲ ${name}` : name;
      width = Math.max(width, 7 * text.length + 12);
      const attributes = { y: (i + 0.5) * rowHeight + 4, "text-anchor": "end", class: marked ? "hostile" : "" };
      names.append(svg("text", attributes, text));
    });
    names.setAttribute("width", width);
    for (const text of names.children) text.setAttribute("x", width - 8);
    for (const i of hostile) {
      names.append(svg("rect", { x: width - 4, y: i * rowHeight, width: 2, height: rowHeight - gap, class: "edge" }));
    }
  }

  function drawShares() {
    shares.replaceChildren();
    counts.forEach((count, i) => {
      const width = (30 * count) / rounds / GREATEST_SHARE;
      const y = i * rowHeight;
      shares.append(svg("rect", { x: 6, y, width, height: rowHeight - Math.max(gap, 0.5), class: hostile.has(i) ? "cB" : "cS" }));
      if (rowHeight >= 11) {
        const percent = `${Math.round((100 * count) / rounds)} %`;
        shares.append(svg("text", { x: 78, y: y + rowHeight / 2 + 4, "text-anchor": "end" }, percent));
      }
    });
  }

  function lay() {
    const least = printing ? 0 : 1.6;
    cell = clamp(scroll.clientWidth / rounds, least, 18);
    spread.style.width = `${Math.max(1, Math.ceil(cell * rounds))}px`;
    spread.style.height = `${tall + 20}px`;
    paint();
  }

  /** Paint the rounds in view; neighbours in one state are one rectangle. */
  function paint() {
    const scale = devicePixelRatio || 1;
    const width = Math.min(scroll.clientWidth, Math.ceil(cell * rounds));
    if (!width) return;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round((tall + 20) * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${tall + 20}px`;
    const brush = canvas.getContext("2d");
    const paints = colours();
    const offset = scroll.scrollLeft;
    const from = Math.max(0, Math.floor(offset / cell));
    const to = Math.min(rounds, Math.ceil((offset + width) / cell));
    const pixel = (t) => Math.round((t * cell - offset) * scale);
    const between = cell >= 8 ? Math.round(scale) : 0;
    for (let i = 0; i < n; i++) {
      const y = Math.round(i * rowHeight * scale);
      const height = Math.round((rowHeight - gap) * scale);
      for (let t = from, end; t < to; t = end) {
        const now = state(t, i);
        for (end = t + 1; !between && end < to && state(end, i) === now; ) end++;
        if (now === ".") continue;
        brush.fillStyle = paints[now];
        brush.fillRect(pixel(t), y, Math.max(1, pixel(end) - pixel(t) - between), height);
      }
    }
    brush.fillStyle = paints.text;
    brush.font = `${11 * scale}px system-ui, sans-serif`;
    brush.textBaseline = "top";
    const [first, last] = [run.rounds[0], run.rounds[rounds - 1]];
    for (const tick of niceTicks(first, Math.max(first + 1, last), clamp((cell * rounds) / 90, 2, 60))) {
      if (!Number.isInteger(tick) || tick < first) continue;
      const middle = ((tick - first + 0.5) * cell - offset) * scale;
      const half = brush.measureText(String(tick)).width / 2;
      const inside = middle <= canvas.width && tick === last;
      const text = clamp(middle, tick === first ? half : -Infinity, inside ? canvas.width - half : Infinity);
      brush.fillText(String(tick), text - half, (tall + 6) * scale);
    }
  }

  function rank(t, i) {
    const scores = run.scores[t];
    if (!scores || scores[i] === null) return null;
    const value = (score) => (score === "∞" ? Infinity : score);
    const known = scores.filter((score) => score !== null);
    const better = known.filter((score) => value(score) < value(scores[i])).length;
    return `score ${number(scores[i])}, rank ${better + 1} of ${known.length}`;
  }

  function read(t, i, clientX, clientY) {
    at = { t: clamp(t, 0, rounds - 1), i: clamp(i, 0, n - 1) };
    ({ t, i } = at);
    const kind = hostile.has(i) ? "Byzantine client" : "client";
    const scored = rank(t, i);
    const said = (run.remarks[t] ?? []).filter(([client]) => client === i).map(([, text]) => run.texts[text]);
    const lines = [line(`round ${run.rounds[t]}, ${kind} ${run.clients[i]}`)];
    const fate = STATES[run.cells[t][i]];
    if (!said.some((text) => text.startsWith(fate))) lines.push(line(fate));
    if (scored) lines.push(line(scored));
    lines.push(...said.map((text) => line(text)));
    if (t in run.notes) lines.push(line(run.note_texts[run.notes[t]], "dim"));
    lines.push(line(`${run.rule_names[run.rules[t]]}${run.stepped[t] ? "" : ": no step"}`, "dim"));
    here.hidden = false;
    here.style.left = `${t * cell - 2}px`;
    here.style.top = `${i * rowHeight - 2}px`;
    here.style.width = `${Math.max(cell, 2) + 4}px`;
    here.style.height = `${rowHeight - gap + 4}px`;
    showTip(clientX, clientY, lines);
  }

  function leave() {
    at = null;
    here.hidden = true;
    hideTip();
  }

  function readAtPointer(event) {
    const { left, top } = spread.getBoundingClientRect();
    const [t, i] = [Math.floor((event.clientX - left) / cell), Math.floor((event.clientY - top) / rowHeight)];
    if (t < 0 || t >= rounds || i < 0 || i >= n) leave();
    else read(t, i, event.clientX, event.clientY);
  }
  scroll.addEventListener("pointermove", readAtPointer);
  scroll.addEventListener("pointerdown", readAtPointer);
  scroll.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && leave());
  place.addEventListener("blur", leave);
  place.addEventListener("keydown", (event) => {
    const { t, i } = at ?? { t: 0, i: 0 };
    const next = {
      ArrowLeft: [t - 1, i], ArrowRight: [t + 1, i], ArrowUp: [t, i - 1], ArrowDown: [t, i + 1],
      PageUp: [t - 10, i], PageDown: [t + 10, i], Home: [0, i], End: [rounds - 1, i],
    };
    if (event.key === "Escape") leave();
    if (!(event.key in next)) return;
    event.preventDefault();
    // The first arrow key shows where one is; after that, they move.
    const [nextT, nextI] = at || !event.key.startsWith("Arrow") ? next[event.key] : [t, i];
    const middle = (clamp(nextT, 0, rounds - 1) + 0.5) * cell;
    if (middle < scroll.scrollLeft || middle > scroll.scrollLeft + scroll.clientWidth) {
      scroll.scrollLeft = middle - scroll.clientWidth / 2;
    }
    const { left, top } = spread.getBoundingClientRect();
    read(nextT, nextI, left + middle, top + (clamp(nextI, 0, n - 1) + 0.5) * rowHeight);
  });
  scroll.addEventListener("scroll", () => requestAnimationFrame(paint));
  redraws.push(lay);
  drawNames();
  drawShares();
  new ResizeObserver(lay).observe(scroll);
}
