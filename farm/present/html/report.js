"use strict";

// Plotly is 5 MB to compile: the page is readable and its table works before that begins.
function whenPainted(then) {
  requestAnimationFrame(() => setTimeout(then, 50));
}

function loadPlotly() {
  const script = document.createElement("script");
  const source = document.getElementById("plotly");
  if (source.dataset.library) {
    script.onload = drawWhenSeen;
    script.src = source.dataset.library;
  } else {
    script.textContent = source.textContent;
  }
  document.body.append(script);
  if (!script.src) drawWhenSeen();
}

// Figures: drawn when they come near the window, because all of them at once would hold the page for seconds.
function draw(plot) {
  if (plot.dataset.drawn) return;
  plot.dataset.drawn = "yes";
  const figure = JSON.parse(document.getElementById("json-" + plot.id.slice(5)).textContent);
  figure.layout.template = { layout: { xaxis: { zeroline: false }, yaxis: { zeroline: false } } };
  Plotly.newPlot(plot, figure.data, figure.layout, { displaylogo: false, responsive: true });
}

function drawWhenSeen() {
  const plots = [...document.querySelectorAll(".plot")];
  const watcher = new IntersectionObserver((seen) => {
    for (const entry of seen) if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  plots.forEach((plot) => watcher.observe(plot));
  window.addEventListener("beforeprint", () => plots.forEach(draw));
}

// The table of all cells: words that must all occur, a status, and columns that sort by number or by text.
(function () {
  const table = document.getElementById("all-cells");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const text = document.getElementById("filter");
  const status = document.getElementById("status");
  const shown = document.getElementById("shown");
  const plain = (element) => element.textContent.toLowerCase().replace(/[,\u202f]/g, "");
  let known = null; // each row's text, and the set of its cells' texts: read when somebody first types

  // A number must be a whole cell ("128" is not "1280"), a word may be a part of one.
  function matches(one, wanted) {
    return wanted.every((word) => (/^[\d.]+$/.test(word) ? one.cells.has(word) : one.text.includes(word)));
  }

  function filter() {
    known = known || rows.map((row) => ({ text: plain(row), cells: new Set([...row.cells].map(plain)) }));
    const wanted = text.value.toLowerCase().replace(/,/g, "").split(/\s+/).filter(Boolean);
    const [kind, value] = status.value.split(":");
    let count = 0;
    rows.forEach((row, index) => {
      const keep = (!kind || row.dataset[kind] === value) && matches(known[index], wanted);
      row.hidden = !keep;
      count += keep;
    });
    shown.textContent = shown.dataset.words.replace("@", String(count));
  }

  function key(row, column) {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b));
  }

  // Cells without a value stay at the end in both directions: they are missing, not small.
  function sort(column, header) {
    const falling = header.getAttribute("aria-sort") === "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const keyed = rows.map((row, place) => ({ row, place, key: key(row, column) }));
    keyed.sort((a, b) => {
      const missing = (a.key === "–") - (b.key === "–");
      return missing || (falling ? compare(b.key, a.key) : compare(a.key, b.key)) || a.place - b.place;
    });
    body.append(...keyed.map((one) => one.row));
  }

  text.addEventListener("input", filter);
  status.addEventListener("change", filter);
  [...table.tHead.rows[0].cells].forEach((header, column) =>
    header.firstElementChild.addEventListener("click", () => sort(column, header)));
})();
