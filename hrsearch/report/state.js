"use strict";

// What a person has chosen: limits on columns, levels of knobs, a colour, a trial. Everything that draws watches it.
const COUNT = DATA.number.length;
const EVERY = Array.from({ length: COUNT }, (_, index) => index);
const PLACE = new Map(DATA.number.map((number, index) => [number, index]));
const state = { limits: {}, levels: {}, colour: "", chosen: -1, kept: new Uint8Array(COUNT).fill(1), fronts: {} };
const watchers = [];

const columnOf = (key) => DATA.columns[key];
const nameOf = (index) => DATA.known[index] ?? `trial ${DATA.number[index]}`;
const isFiltered = () => Object.keys(state.limits).length + Object.keys(state.levels).length > 0;

function changed() {
  for (const index of EVERY) state.kept[index] = keepsLimits(index) && keepsLevels(index) ? 1 : 0;
  for (const view of Object.keys(DATA.views)) state.fronts[view] = new Set(frontOf(DATA.views[view]));
  for (const watcher of watchers) watcher();
}

function keepsLimits(index) {
  return Object.entries(state.limits).every(([key, bound]) => {
    const { values, best } = columnOf(key);
    const value = values[index];
    return value !== null && (best === "minimize" ? value <= bound : value >= bound);
  });
}

function keepsLevels(index) {
  return Object.entries(state.levels).every(([knob, levels]) => levels.has(DATA.knobs[knob].of[index]));
}

// Contenders that no other one beats beyond the noise of measuring: hrsearch.front.not_surely_dominated.
function frontOf({ objectives, contenders }) {
  const columns = objectives.map(columnOf);
  const left = contenders.filter((index) => state.kept[index]);
  const best = left.map((index) => columns.map((column) => endOf(column, index, true)));
  const worst = left.map((index) => columns.map((column) => endOf(column, index, false)));
  const beating = undominated(worst);
  return left.filter((_, place) => !beating.some((row) => beats(row, best[place])));
}

// The end of a value's interval at which it would be best, or worst; more is better in what is returned.
function endOf(column, index, isBest) {
  const sign = column.best === "maximize" ? 1 : -1;
  const low = column.low?.[index] ?? column.values[index];
  const high = column.high?.[index] ?? column.values[index];
  return isBest ? Math.max(sign * low, sign * high) : Math.min(sign * low, sign * high);
}

const holds = (row, other) => row.every((value, column) => value >= other[column]);
const beats = (row, other) => holds(row, other) && row.some((value, column) => value > other[column]);

// In descending order nothing beats what came before it.
function undominated(rows) {
  const order = (a, b) => b[a.findIndex((value, column) => value !== b[column])] - a[a.findIndex((value, column) => value !== b[column])] || 0;
  const found = [];
  for (const row of [...rows].sort(order)) if (!found.some((other) => holds(other, row))) found.push(row);
  return found;
}
