// Sorting by a heading, and every seed of the cell that is pointed at.

const HINT = document.getElementById("hint");

function keyOf(cell) {
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
}

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b);
}

function sortBy(heading) {
  const body = heading.closest("table").tBodies[0];
  const place = heading.cellIndex;
  const first = place ? "descending" : "ascending"; // numbers from the greatest, names from a
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  for (const each of heading.parentNode.cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...body.rows];
  rows.sort((a, b) => sign * compare(keyOf(a.cells[place]), keyOf(b.cells[place])));
  body.append(...rows);
}

function showHint(cell, event) {
  HINT.textContent = cell.dataset.hint;
  HINT.hidden = false;
  const { width, height } = HINT.getBoundingClientRect();
  const right = event.clientX + 14;
  const below = event.clientY + 18;
  HINT.style.left = `${Math.max(8, Math.min(right, innerWidth - width - 8))}px`;
  HINT.style.top = `${below + height < innerHeight ? below : Math.max(8, event.clientY - height - 12)}px`;
}

for (const box of document.querySelectorAll(".scroll")) fading(box);
document.addEventListener("click", (event) => {
  const heading = event.target.closest("thead th");
  if (heading) sortBy(heading);
});
document.addEventListener("pointermove", (event) => {
  const cell = event.target.closest("td[data-hint]");
  if (cell) showHint(cell, event);
  else HINT.hidden = true;
});
