"use strict";
// Draws the charts when they come into view, sorts and searches tables, chooses panels.
(function () {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const parse = (id) => JSON.parse(document.getElementById(id).textContent);

  function themed(layout) {
    const axis = (old) => Object.assign({ gridcolor: css("--grid"), zerolinecolor: css("--grid"), linecolor: css("--line") }, old);
    const look = Object.assign({}, layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: css("--ink"), size: 13 },
      margin: { l: 60, r: 20, t: layout.title ? (window.innerWidth < 600 ? 124 : 84) : 44, b: 60 }, autosize: true,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    });
    if (look.title) look.title = Object.assign({ x: 0.02, xanchor: "left", y: 0.97, yanchor: "top" }, look.title);
    for (const key of Object.keys(look)) if (/^[xy]axis\d*$/.test(key)) look[key] = axis(look[key]);
    return look;
  }

  function draw(figure) {
    const place = figure.querySelector(".plot");
    const chart = parse("chart-" + figure.dataset.chart);
    chart.layout = themed(chart.layout || {});
    if (window.innerWidth < 600) for (const trace of chart.data) if (trace.type === "heatmap") trace.showscale = false;
    Plotly.newPlot(place, chart.data, chart.layout, { responsive: true, displaylogo: false, displayModeBar: false })
      .then(() => { figure.dataset.drawn = "yes"; });
  }

  const figures = [...document.querySelectorAll("[data-chart]")];
  const drawAll = () => figures.filter((figure) => !figure.dataset.begun).forEach((figure) => { figure.dataset.begun = "yes"; draw(figure); });
  const observer = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting && !entry.target.dataset.begun) { entry.target.dataset.begun = "yes"; draw(entry.target); }
  }), { rootMargin: "400px" });
  figures.forEach((figure) => observer.observe(figure));
  window.addEventListener("beforeprint", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    figures.filter((figure) => figure.dataset.drawn).forEach(draw);
  });

  const value = (cell) => {
    const text = cell.textContent.trim(), number = parseFloat(text.replace(/[%,]/g, ""));
    return Number.isNaN(number) || !/^[-+\d.]/.test(text) ? text.toLowerCase() : number;
  };
  for (const box of document.querySelectorAll("[data-sortable]")) {
    const body = box.querySelector("tbody"), status = box.querySelector(".found");
    box.querySelectorAll("thead button").forEach((button, column) => button.addEventListener("click", () => {
      const head = button.parentElement, down = head.getAttribute("aria-sort") === "ascending";
      box.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
      rows.sort(([a], [b]) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1) * (down ? -1 : 1));
      body.append(...rows.map(([, row]) => row));
    }));
    const search = box.querySelector("input");
    if (search) search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      let shown = 0;
      for (const row of body.rows) { row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted); shown += !row.hidden; }
      status.textContent = wanted ? shown + " of " + body.rows.length + " rows" : "";
    });
  }

  for (const choice of document.querySelectorAll("[data-choose]")) choice.addEventListener("change", () => {
    document.querySelectorAll('[data-panel="' + choice.dataset.choose + '"]').forEach((panel, number) => {
      panel.hidden = number !== Number(choice.value);
    });
    window.dispatchEvent(new Event("resize"));
  });
  if (typeof Player !== "undefined") Player.init(document);
  document.documentElement.dataset.ready = "yes";
})();
