// What the scripts of all pages have in common.

/** Let a box that scrolls fade at its right edge for as long as something lies behind it. */
function fading(box) {
  const mark = () => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  const watch = new ResizeObserver(mark);
  watch.observe(box);
  for (const child of box.children) watch.observe(child);
  box.addEventListener("scroll", mark, { passive: true });
}
