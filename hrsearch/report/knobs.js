"use strict";

// Parallel coordinates of the knobs: an axis per knob, a line per candidate, levels to choose by click, key or drag.
const GAP = 78; // pixels between axes at least
const PAPER = 700; // pixels that fit on a printed page
const FEW = 600; // lines that are drawn at most; every n-th of more

function knobLines(host) {
  const names = Object.keys(DATA.knobs);
  const gap = Math.min(Math.max(GAP, Math.floor((host.clientWidth - 2) / names.length)), 3 * GAP);
  const [width, height] = [names.length * gap, 300];
  const x = (place) => (place + 0.5) * gap;
  const y = (knob, level) => {
    const { levels, of } = DATA.knobs[knob];
    const places = levels.length - 1 + (of.includes(-1) ? 1 : 0);
    return 270 - ((level < 0 ? levels.length : level) / Math.max(places, 1)) * 225;
  };
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "lines", "aria-hidden": "true" });
  const buttons = names.flatMap((knob, place) => levelButtons(knob, x(place), y));
  const note = html("p", { class: "note", role: "status" });
  const clear = html("button", { type: "button", class: "plain", click: () => choose(() => { state.levels = {}; }) }, "All levels");
  const canvas = html("div", { class: "canvas", style: `width:${width}px;height:${height}px;--fit:${Math.min(1, PAPER / width)}` }, picture, buttons);
  host.append(html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Levels" }, canvas), note, clear);
  brush(canvas, names, gap, y);
  watchers.push(() => {
    const [kept, rest] = [EVERY.filter((index) => state.kept[index]), EVERY.filter((index) => !state.kept[index])];
    const thin = (indices) => indices.filter((_, place) => place % Math.ceil(indices.length / FEW) === 0);
    const front = state.fronts[""];
    const pathOf = (indices) => indices.map((index) => lineThrough(names, index, x, y)).join("");
    picture.replaceChildren(
      svg("path", { class: "all faint", d: pathOf(isFiltered() ? thin(rest) : []) || "M0 0" }),
      ...thin(kept).map((index) => svg("path", { class: "all judged", d: lineThrough(names, index, x, y) || "M0 0" })),
      svg("path", { class: "all front", d: pathOf(kept.filter((index) => front.has(index))) || "M0 0" }),
      state.chosen >= 0 ? svg("path", { class: "all chosen", d: lineThrough(names, state.chosen, x, y) || "M0 0" }) : "",
      ...names.map((knob, place) => svg("line", { class: "axis", x1: x(place), x2: x(place), y1: 40, y2: 275 })),
    );
    const share = kept.length > FEW ? ` Every ${Math.ceil(kept.length / FEW)}th line is drawn.` : "";
    note.textContent = `${kept.length} of ${COUNT} candidates have these levels and keep the limits.${share}`;
    for (const button of buttons) if (button.dataset.knob) button.setAttribute("aria-pressed", String(isChosen(button)));
  });
}

// Published networks have no knobs, and no line.
function lineThrough(names, index, x, y) {
  if (names.every((knob) => DATA.knobs[knob].of[index] === -2)) return "";
  const spread = ((index * 7919) % 13) - 6; // keeps lines of one level apart
  return names.map((knob, place) => `${place ? "L" : "M"}${x(place)} ${(y(knob, DATA.knobs[knob].of[index]) + spread * 0.7).toFixed(1)}`).join("");
}

function levelButtons(knob, x, y) {
  const { levels, of } = DATA.knobs[knob];
  const left = `left:${x}px`;
  const found = levels.map((text, level) => [text, level]);
  if (of.includes(-1)) found.push(["none", -1]);
  const title = html("b", { style: `${left};top:6px`, title: knob }, knob);
  return [title, ...found.map(([text, level]) => html("button", {
    type: "button",
    style: `${left};top:${y(knob, level)}px`,
    "data-knob": knob,
    "data-level": level,
    "aria-pressed": "false",
    "aria-label": `${knob} ${text}`,
    click: () => toggle(knob, level),
  }, text))];
}

const isChosen = ({ dataset }) => Boolean(state.levels[dataset.knob]?.has(Number(dataset.level)));

function choose(change) {
  change();
  changed();
}

function toggle(knob, level) {
  choose(() => {
    const levels = new Set(state.levels[knob] ?? []);
    if (!levels.delete(level)) levels.add(level);
    setLevels(knob, levels);
  });
}

function setLevels(knob, levels) {
  if (levels.size) state.levels[knob] = levels;
  else delete state.levels[knob];
}

// Dragging along an axis chooses the levels between its ends.
function brush(canvas, names, gap, y) {
  let from = null;
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("pointerdown", (event) => { from = event.pointerType === "touch" ? null : spot(event); });
  canvas.addEventListener("pointerup", (event) => {
    const to = spot(event);
    if (!from || Math.abs(to.y - from.y) < 12) return;
    const knob = names[Math.min(Math.max(Math.floor(from.x / gap), 0), names.length - 1)];
    const [top, bottom] = [from.y, to.y].sort((a, b) => a - b);
    const levels = [...DATA.knobs[knob].levels.keys()].filter((level) => y(knob, level) >= top - 6 && y(knob, level) <= bottom + 6);
    from = null;
    choose(() => setLevels(knob, new Set(levels)));
  });
}
