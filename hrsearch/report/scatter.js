"use strict";

// All trials in two columns: the front of all objectives, the others, published networks, winners, the chosen one.
const BINS = 8;

function scatter(axes, view) {
  const { winners } = DATA.views[view];
  return () => {
    const [across, up] = [axisOf(axes.across), axisOf(axes.up)];
    const shownOnes = EVERY.filter((index) => across.values[index] !== null && up.values[index] !== null);
    const marks = shownOnes.filter((index) => state.kept[index]).map((index) => ({
      x: across.values[index],
      y: up.values[index],
      words: () => wordsOf(index),
      open: () => openDetails(index),
      index,
    }));
    const label = `${up.label} against ${across.label}`;
    return { label, across, up, marks, paint: (plane) => painted(plane, across, up, shownOnes, view, winners) };
  };
}

function axisOf(key) {
  const column = columnOf(key);
  const ends = { lows: column.low, highs: column.high }; // an axis has a low and a high end of its own
  return { ...column, ...ends, ...rangeOf(column.values, column.best === "minimize", column.best === "minimize" ? 0.07 : 0.12) };
}

function wordsOf(index) {
  const figures = Object.values(DATA.columns).filter(({ values }) => values[index] !== null);
  const parts = figures.map(({ title, form, values }) => `${title} ${shown(form, values[index])}`);
  return [nameOf(index), parts.join(" · "), DATA.design[index]];
}

function painted(plane, across, up, indices, view, winners) {
  const at = (index) => [plane.x.at(across.values[index]), plane.y.at(up.values[index])];
  const front = state.fronts[view];
  const kept = indices.filter((index) => state.kept[index]);
  const drawn = kept.filter((index) => !(index in DATA.known));
  const known = kept.filter((index) => index in DATA.known);
  const best = drawn.filter((index) => front.has(index));
  return [
    dots(indices.filter((index) => !state.kept[index]), at, 4, "faint"),
    ...coloured(drawn.filter((index) => !front.has(index)), at, 7, "judged"),
    edge(plane, across, up, kept, view),
    ...intervals(plane, across, up, [...best, ...known]),
    ...coloured(best, at, 11, "front"),
    ...known.map((index) => diamond(...at(index))),
    ...names(plane, known, at),
    ...rings(plane, winners, at, indices),
    indices.includes(state.chosen) ? ring(...at(state.chosen), 11, "chosen") : null,
  ];
}

// One path for all: a line of no length with round ends is a dot.
function dots(indices, at, size, role) {
  if (!indices.length) return null;
  const path = indices.map((index) => `M${at(index).map((value) => value.toFixed(1)).join(" ")}h0`).join("");
  return svg("path", { class: `dots ${role}`, d: path, "stroke-width": size });
}

function coloured(indices, at, size, role) {
  const column = columnOf(state.colour);
  if (!column) return [dots(indices, at, size, role)];
  const ends = binEnds(column);
  const bins = Array.from({ length: BINS }, () => []);
  for (const index of indices) {
    const value = column.values[index];
    if (value !== null) bins[ends.filter((end) => value > end).length].push(index);
  }
  return bins.map((bin, place) => dots(bin, at, size, `bin${place}`));
}

// Colours by rank, an eighth of the networks each: an outlier does not leave one colour for the rest.
function binEnds(column) {
  const sorted = column.values.filter((value) => value !== null).sort((a, b) => a - b);
  return Array.from({ length: BINS - 1 }, (_, bin) => sorted[Math.floor(((bin + 1) * sorted.length) / BINS)]);
}

// The steps of the front of these two columns alone; two costs have none that says much.
function edge(plane, across, up, kept, view) {
  if (across.best === up.best) return null;
  const allowed = new Set(DATA.views[view].contenders);
  const pairs = kept.filter((index) => allowed.has(index)).map((index) => [endOf({ ...across, low: null, high: null }, index, true), endOf({ ...up, low: null, high: null }, index, true)]);
  const sign = [across, up].map(({ best }) => (best === "maximize" ? 1 : -1));
  const corners = undominated(pairs).map(([x, y]) => [x * sign[0], y * sign[1]]).sort((a, b) => a[0] - b[0]);
  const path = corners.map(([x, y], place) => `${place ? `H${plane.x.at(x)}V` : `M${plane.x.at(x)} `}${plane.y.at(y)}`);
  return svg("path", { class: "line front edge", d: path.join("") || "M0 0" });
}

function intervals(plane, across, up, indices) {
  const lines = [];
  for (const index of indices) {
    const [x, y] = [plane.x.at(across.values[index]), plane.y.at(up.values[index])];
    const ends = (column, at) => [column.lows[index], column.highs[index]].map(at);
    if (across.lows?.[index]) lines.push(`M${ends(across, plane.x.at)[0]} ${y}H${ends(across, plane.x.at)[1]}`);
    if (up.lows?.[index]) lines.push(`M${x} ${ends(up, plane.y.at)[0]}V${ends(up, plane.y.at)[1]}`);
  }
  return lines.length ? [svg("path", { class: "interval", d: lines.join("") })] : [];
}

const diamond = (x, y) => svg("path", { class: "mark published", d: `M${x} ${y - 8}l8 8l-8 8l-8-8z` });
const ring = (x, y, r, role) => svg("circle", { class: `ring ${role}`, cx: x, cy: y, r });

// Names keep away from the right edge.
function names(plane, known, at) {
  return known.map((index) => {
    const [x, y] = at(index);
    const right = x > plane.area.left + 0.75 * (plane.area.right - plane.area.left);
    return svg("text", { class: "name published", x: right ? x - 11 : x + 11, y: y + 16, "text-anchor": right ? "end" : "start" }, nameOf(index));
  });
}

function rings(plane, winners, at, indices) {
  const grouped = new Map();
  for (const [choice, index] of Object.entries(winners)) {
    if (indices.includes(index) && state.kept[index]) grouped.set(index, [...(grouped.get(index) ?? []), choice]);
  }
  const taken = indices.filter((index) => state.kept[index]).map(at);
  return [...grouped].flatMap(([index, choices]) => {
    const words = choices.join(", ");
    const place = freeBeside(plane, ...at(index), 7 * words.length, taken);
    return [ring(...at(index), 9, "winner"), svg("text", { class: "name winner", ...place }, words)];
  });
}

// Words beside a ring, where they lie over the fewest points: above, below, on the right or on the left.
function freeBeside(plane, x, y, width, taken) {
  const sides = [[x - width / 2, y - 14, "middle", x], [x - width / 2, y + 24, "middle", x], [x + 14, y + 4, "start", x + 14], [x - 14 - width, y + 4, "end", x - 14]];
  const covered = ([left, foot]) => taken.filter(([across, up]) => across > left - 4 && across < left + width + 4 && up > foot - 14 && up < foot + 4).length;
  const room = ([left, foot]) => left > plane.area.left && left + width < plane.area.right + EDGE.right && foot > 12 && foot < plane.area.bottom;
  const costs = sides.map((side) => covered(side) + (room(side) ? 0 : taken.length));
  const [left, foot, anchor, start] = sides[costs.indexOf(Math.min(...costs))];
  taken.push([left + width / 2, foot - 4], [left + 4, foot - 4], [left + width - 4, foot - 4]);
  return { x: start, y: foot, "text-anchor": anchor };
}
