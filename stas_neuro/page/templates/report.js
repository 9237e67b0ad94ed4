"use strict";

// Draw every chart. Failures are shown in the page, and in the console.
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const place of document.querySelectorAll("[data-chart]")) {
  const actions = { export: true, source: false, compiled: false, editor: false };
  vegaEmbed(place, charts[place.dataset.chart], { renderer: "svg", actions, downloadFileName: place.dataset.chart })
    .then(() => {
      place.querySelector("svg").setAttribute("aria-hidden", "true");  // the label of its place has it in words
      place.querySelector("summary").setAttribute("aria-label", "Save this chart as SVG or PNG");
      place.classList.add("drawn");
    })
    .catch((error) => { place.textContent = `This chart cannot be drawn: ${error}`; console.error(error); });
}

// Sort a table by a column: numbers by size, words by alphabet, cells without a value last.
function compare(a, b) {
  const numbers = [Number(a), Number(b)];
  return numbers.some(Number.isNaN) ? a.localeCompare(b, "en", { numeric: true }) : numbers[0] - numbers[1];
}
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = heading.closest("table").tBodies[0];
    const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const value = (row) => row.cells[heading.cellIndex].dataset.value;
    const sign = direction === "ascending" ? 1 : -1;
    const known = (row) => value(row) !== undefined;
    const rows = [...body.rows];
    const sorted = rows.filter(known).sort((a, b) => sign * compare(value(a), value(b)));
    body.append(...sorted, ...rows.filter((row) => !known(row)));
  });
}

// Print what is folded, too.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("section > details:not([open])")) { each.open = true; each.dataset.folded = ""; }
});
addEventListener("afterprint", () => {
  for (const each of document.querySelectorAll("section > details[data-folded]")) { each.open = false; delete each.dataset.folded; }
});
