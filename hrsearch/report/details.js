"use strict";

// All about one trial, in a panel beside the page: figures, drawing, knobs, bill, rungs, YAML and command.
let unpacked;

// The archive is unpacked once, when somebody asks for what is in it.
function inside() {
  unpacked ??= unpack(ARCHIVE);
  return unpacked;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const panel = html("aside", { id: "details", "aria-label": "About one network", hidden: "", tabindex: -1 });
let opener = null;

async function openDetails(index) {
  if (panel.hidden) opener = document.activeElement;
  const found = (await inside())[index];
  panel.replaceChildren(...about(index, found));
  panel.hidden = false;
  panel.scrollTop = 0;
  for (const host of panel.querySelectorAll("[data-curve]")) new Plane(host, chart(CURVES[host.dataset.curve](found)));
  state.chosen = index;
  changed();
  panel.focus();
}

function closeDetails() {
  if (panel.hidden) return;
  panel.hidden = true;
  state.chosen = -1;
  changed();
  opener?.focus?.();
}

function about(index, found) {
  const figures = Object.values(DATA.columns).filter(({ values }) => values[index] !== null);
  const command = `hrsearch export ${DATA.study} --pick trial:${DATA.number[index]} --to winner/`;
  const name = nameOf(index);
  return [
    html("button", { type: "button", class: "close", "aria-label": "Close", click: closeDetails }, "✕"),
    html("h2", {}, name, index in DATA.known ? html("small", {}, " published") : null),
    html("p", { class: "note" }, [DATA.design[index], standing(index)].filter(Boolean).join("; ")),
    html("dl", { class: "numbers" }, figures.map((column) => figure(column, index))),
    ...(found.arch ? [html("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Its drawing" }, drawingOf(found.arch)), kindsKey(found.arch)] : []),
    ...titled("Knobs", Object.keys(found.knobs).length ? knobsOf(found.knobs) : null),
    ...titled("Where the milliseconds go", found.ms_by_place ? billOf(name, found) : null),
    ...titled("Training loss", found.losses ? html("div", { class: "figure", "data-curve": "losses" }) : null),
    ...titled("Rungs", found.rungs.length > 1 ? html("div", { class: "figure", "data-curve": "rungs" }) : null),
    ...titled("Take it", commandBox(command)),
    ...titled("Its YAML", found.yaml ? yamlBox(found.yaml) : null),
  ];
}

const titled = (title, content) => (content ? [html("h3", {}, title), content] : []);

function standing(index) {
  if (state.fronts[""].has(index)) return isFiltered() ? "on the front of what is left" : "on the front";
  return DATA.views[""].contenders.includes(index) ? "" : "breaks a limit or lacks a value";
}

function figure({ title, form, values, low, high }, index) {
  const between = low?.[index] ? html("small", {}, ` ${digits(low[index])}–${digits(high[index])}`) : null;
  return html("div", {}, html("dt", {}, title), html("dd", {}, shown(form, values[index]), between));
}

const knobsOf = (knobs) => html("dl", { class: "pairs" }, Object.entries(knobs).map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, value))));

function billOf(name, { flops_by_place: flops, ms_by_place: ms }) {
  const places = Object.keys(ms);
  const series = [["FLOPs", "judged", flops ?? {}, "count"], ["milliseconds", "front", ms, "ms"]].map(([title, role, found, form]) => {
    const whole = Object.values(found).reduce((sum, value) => sum + value, 0) || 1;
    const values = places.map((place) => found[place] ?? 0);
    return { name: title, role, shares: values.map((value) => value / whole), texts: values.map((value) => shown(form, value)) };
  });
  const host = html("div");
  bars(host, { title: `share of ${name}`, places, series });
  return host;
}

// A training as lines over its steps: the loss of every tenth, a line for each rung, or the score at each rung.
const CURVES = { losses: ({ losses }) => lossesOf(losses), rungs: ({ rungs }) => scoresOf(rungs) };
const STEPS_OF_TRAINING = { label: "steps of training", form: "plain" };

function lossesOf(losses) {
  const traces = losses.map((curve) => ({ role: "front", mode: "line", name: "", title: `trained to step ${curve.at(-1)[0]}`, x: curve.map(([step]) => step), y: curve.map(([, loss]) => loss) }));
  return { across: STEPS_OF_TRAINING, up: { label: "training loss", form: "score" }, traces };
}

function scoresOf(rungs) {
  const [x, y] = [rungs.map(([steps]) => steps), rungs.map(([, value]) => value)];
  const score = columnOf("score");
  const line = { role: "front", mode: "line", x, y, name: "" };
  return { across: STEPS_OF_TRAINING, up: { label: score?.label ?? "score", form: "score" }, traces: [line, { ...line, mode: "points", trials: x.map(() => -1) }] };
}

function commandBox(text) {
  return html("div", { class: "command" }, html("code", {}, text), copyButton(text));
}

function yamlBox(text) {
  return html("div", { class: "command yaml" }, html("pre", { tabindex: 0, role: "region", "aria-label": "YAML" }, text), copyButton("its YAML"));
}

const copyButton = (what) => html("button", { type: "button", class: "copy", "aria-label": `Copy ${what}`, click: (event) => copy(event.currentTarget) }, "copy");

// The clipboard is closed to pages of some browsers that were opened from a file; then the text is selected.
async function copy(button) {
  const code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "selected";
  }
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}
