"use strict";

// Draws every figure in its place, keeps the tables in step, and hands clicks and keys on.
document.body.append(panel);

for (const host of document.querySelectorAll("[data-figure]")) place(host, FIGURES[host.dataset.figure]);

// A target whose networks have no score has a table, but nothing to draw.
function place(host, spec) {
  if (!spec) {
    host.remove();
  } else if (spec.kind === "bars") {
    bars(host, spec);
  } else if (spec.kind === "solid") {
    const solid = new Solid(host, spec);
    watchers.push(() => solid.draw());
  } else if (spec.kind === "chart") {
    new Plane(host, chart(spec)).draw();
  } else {
    const own = host.dataset.figure === "front" ? Object.assign(axes, spec) : spec;
    const plane = new Plane(host, scatter(own, spec.view));
    watchers.push(() => plane.draw());
    const form = document.getElementById("controls");
    if (own === axes && form) controls(form, plane);
  }
}

const knobs = document.getElementById("knobs");
if (knobs && Object.keys(DATA.knobs).length) knobLines(knobs);
else knobs?.closest("section").remove();

const kept = document.getElementById("kept");
if (kept) watchers.push(() => tellKept(kept));

for (const table of document.querySelectorAll("table[data-view]")) watchers.push(keeping(table));

// While a filter is on, the rows of a front are those of the front of what is left.
function keeping(table) {
  const written = [...table.tBodies[0].rows];
  const names = table.dataset.columns.split(" ");
  const { view } = table.dataset;
  const count = view ? null : document.getElementById("front-count");
  return () => {
    const front = [...state.fronts[view]].sort(bestFirst);
    table.tBodies[0].replaceChildren(...(isFiltered() ? front.map((index) => row(index, names, view)) : written));
    if (count) count.textContent = `${front.length} network${front.length === 1 ? "" : "s"}`;
    for (const each of table.tBodies[0].rows) each.classList.toggle("chosen", Number(each.querySelector(".open").dataset.trial) === DATA.number[state.chosen]);
  };
}

function bestFirst(a, b) {
  const { values, best } = columnOf(DATA.views[""].objectives[0]);
  return (best === "maximize" ? values[b] - values[a] : values[a] - values[b]) || a - b;
}

function row(index, names, view) {
  const cells = names.flatMap((name) => {
    const column = columnOf(view && columnOf(`${name} on ${view}`) ? `${name} on ${view}` : name);
    const cell = html("td", {}, shown(column.form, column.values[index]));
    const ends = column.low?.[index] ? `${digits(column.low[index])}–${digits(column.high[index])}` : "";
    return name === "latency" ? [cell, html("td", { class: "interval" }, ends)] : [cell];
  });
  const open = html("button", { type: "button", class: "open", "data-trial": DATA.number[index] }, nameOf(index));
  const badge = index in DATA.known ? html("span", { class: "badge published" }, "published") : null;
  return html("tr", {}, html("th", { scope: "row" }, open, badge), cells, html("td", { class: "design" }, DATA.design[index]));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".open, table[data-view] tbody tr");
  const number = Number((button?.matches(".open") ? button : button?.querySelector(".open"))?.dataset.trial);
  if (PLACE.has(number)) openDetails(PLACE.get(number));
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeDetails(); });
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));

changed();
for (const host of document.querySelectorAll("[data-drawing]")) {
  const arch = DATA.winners[host.dataset.drawing];
  host.replaceChildren(drawingOf(arch), kindsKey(arch));
}
