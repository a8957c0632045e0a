// What Sphinx leaves out for those who use a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  // Titles of the menu are headings; of which level is not said.
  for (const title of document.querySelectorAll("[role=heading]:not([aria-level])"))
    title.setAttribute("aria-level", "2");
  // Signatures of several lines are lists of definitions without terms.
  for (const list of document.querySelectorAll("dt.sig dl")) list.setAttribute("role", "presentation");
  // What scrolls in itself can be reached by the Tab key.
  const reach = () => {
    for (const box of document.querySelectorAll("pre, .table-wrapper"))
      if (box.scrollWidth > box.clientWidth) box.setAttribute("tabindex", "0");
  };
  reach();
  window.addEventListener("resize", reach);
});
