"use strict";

// The choice of axes and colour, and a slider per column: what is beyond a limit fades, and the front is drawn anew.
const STEPS = 200;
const axes = { across: null, up: null };
const colours = html("p", { class: "key" });

function controls(form, plane) {
  const columns = Object.entries(DATA.columns);
  const options = columns.map(([key, { label }]) => [key, label]);
  const redraw = () => plane.zoomTo(null);
  form.append(
    chooser("Across", options, axes.across, (key) => { axes.across = key; redraw(); }),
    chooser("Up", options, axes.up, (key) => { axes.up = key; redraw(); }),
    chooser("Colour", [["", "front or not"], ...options], "", (key) => { state.colour = key; changed(); tellColours(key); }),
    colours,
    html("fieldset", {}, html("legend", {}, "Limits"), columns.map(([key, column]) => slider(key, column))),
    html("button", { type: "button", class: "plain", id: "no-limits", click: () => freed(form) }, "No limits"),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
}

function freed(form) {
  for (const range of form.querySelectorAll("input")) {
    if (range.value === range.defaultValue) continue;
    range.value = range.defaultValue;
    range.dispatchEvent(new Event("input"));
  }
}

function chooser(title, options, chosen, choose) {
  const select = html("select", { change: (event) => choose(event.target.value) },
    options.map(([key, label]) => html("option", { value: key, selected: key === chosen ? "" : null }, label)));
  return html("label", {}, html("span", {}, title), select);
}

function tellColours(key) {
  const column = columnOf(key);
  const values = column ? column.values.filter((value) => value !== null).sort((a, b) => a - b) : [];
  const swatches = Array.from({ length: BINS }, (_, bin) => html("i", { class: `bin${bin}` }, "●"));
  const ends = column ? [shown(column.form, values[0]), shown(column.form, values.at(-1))] : [];
  colours.replaceChildren(...(column ? [html("span", {}, `${ends[0]} `, swatches, ` ${ends[1]}`)] : []));
}

// The end of the slider where everything is allowed sets no limit.
function slider(key, column) {
  const cost = column.best === "minimize";
  const range = rangeOf(column.values, cost, 0);
  const scale = scaleOf(range, 0, STEPS);
  const free = cost ? STEPS : 0;
  const text = html("output", {}, "any");
  const input = html("input", { type: "range", min: 0, max: STEPS, value: free, input: (event) => {
    const place = Number(event.target.value);
    if (place === free) delete state.limits[key];
    else state.limits[key] = rounded(scale.value(place), cost ? Math.ceil : Math.floor);
    text.textContent = place === free ? "any" : shown(column.form, state.limits[key]);
    event.target.setAttribute("aria-valuetext", text.textContent);
    changed();
  } });
  return html("label", {}, html("span", {}, `${column.title} ${cost ? "at most" : "at least"} `, text), input);
}

// Three digits, to the side that lets more pass: the end of the slider keeps the best network.
function rounded(value, side) {
  if (!value) return 0;
  const digit = 10 ** (Math.floor(Math.log10(Math.abs(value))) - 2);
  return Number((side(value / digit - (side === Math.ceil ? 1e-9 : -1e-9)) * digit).toPrecision(3));
}

// What is left, in words, and the command that picks the best of it.
function tellKept(place) {
  const left = EVERY.filter((index) => state.kept[index]).length;
  if (!isFiltered()) {
    place.replaceChildren(`${COUNT} networks are trained.`);
    return;
  }
  if (!left) {
    place.replaceChildren(`None of ${COUNT} networks is left: loosen a limit, or choose more levels.`);
    return;
  }
  const words = `${left} of ${COUNT} networks are left; ${state.fronts[""].size} of them are on the front that is drawn.`;
  const best = bestLeft();
  const command = `hrsearch export ${DATA.study} --pick ${choiceOf(best)} --to winner/`;
  place.replaceChildren(words, ...(best === undefined ? [] : [commandBox(command)]));
}

// The best of those left that an export may choose; undefined where there is none.
function bestLeft() {
  const column = columnOf("score") ?? columnOf(DATA.views[""].objectives[0]);
  const worth = (index) => (column.best === "maximize" ? 1 : -1) * (column.values[index] ?? NaN);
  const left = DATA.views[""].contenders.filter((index) => state.kept[index] && !Number.isNaN(worth(index)));
  return left.sort((a, b) => worth(b) - worth(a))[0];
}

// Limits, where they say all: levels of knobs and other devices cannot be written, and confirmed scores choose otherwise.
function choiceOf(best) {
  const columns = Object.keys(state.limits).map(columnOf);
  const isSaid = columns.length && columns.every(({ limit }) => limit) && !Object.keys(state.levels).length;
  if (!isSaid || DATA.confirmed) return `trial:${DATA.number[best]}`;
  const texts = Object.values(state.limits).map((bound, place) =>
    `${columns[place].limit}${columns[place].best === "minimize" ? "<=" : ">="}${Number(bound)}`);
  return `'${texts.join(",")}'`;
}
