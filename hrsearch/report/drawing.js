"use strict";

// A network as everyone knows it from HRNet: stages from left to right, resolutions from top to bottom.
const ROW = 46;
const BLOCK = 8;
const LINK = 30;
const LABEL = 34;

const KINDS = 6; // colours of kinds
const kindClass = (kind) => `kind${Math.max(DATA.kinds.indexOf(kind), 0) % KINDS}`;
const thickness = (channels) => Math.min(4 + 4.5 * Math.log2(Math.max(channels / 8, 1)), ROW - 14);
const lengthOf = (branch) => Math.max(branch.depth, 1) * (BLOCK + 2) + 2;

function drawingOf(arch) {
  const strides = [...new Set(arch.stages.flatMap((stage) => stage.branches.map((branch) => branch.stride)))].sort((a, b) => a - b);
  const middle = (branch) => ROW * (strides.indexOf(branch.stride) + 0.5);
  const [lines, bands] = [[], []];
  let left = LABEL;
  let ends = [{ x: left, y: ROW / 2 }];
  for (const stage of arch.stages) {
    const start = left + LINK;
    left = start + Math.max(...stage.branches.map(lengthOf));
    for (const branch of stage.branches) {
      lines.push(...ends.map((end) => fusion(end.x, end.y, start, middle(branch))));
      bands.push(...band(branch, start, left, middle(branch)));
    }
    ends = stage.branches.map((branch) => ({ x: left, y: middle(branch), branch }));
  }
  const labels = [
    ...strides.map((stride, row) => svg("text", { x: 0, y: ROW * (row + 0.5) + 4 }, `1/${stride}`)),
    ...ends.filter(({ branch }) => branch).map(({ x, y, branch }) => svg("text", { x: x + 6, y: y + 4 }, String(branch.channels))),
  ];
  const [width, height] = [left + LABEL, Math.max(strides.length, 1) * ROW];
  const box = { viewBox: `0 0 ${width} ${height}`, class: "drawing", role: "img", "aria-label": "Drawing of the network", style: `max-width:${1.6 * width}px` };
  return svg("svg", box, svg("g", { class: "links" }, lines), bands, labels);
}

const fusion = (x1, y1, x2, y2) => svg("line", { class: y1 === y2 ? "same" : "across", x1, y1, x2, y2 });

// The map as a band that is the thicker the more channels it has, its blocks as bars in it, their window beneath.
function band(branch, start, end, y) {
  const height = thickness(branch.channels);
  const top = y - height / 2;
  const title = svg("title", {}, `${branch.channels} channels at 1/${branch.stride}: ${blocksOf(branch)}`);
  const bars = Array.from({ length: branch.depth }, (_, index) =>
    svg("rect", { class: `block ${kindClass(branch.block?.kind)}`, x: start + 2 + index * (BLOCK + 2), y: top, width: BLOCK, height, rx: 1.5 }));
  const window = branch.block?.window;
  const text = window === undefined ? null : svg("text", { class: "window", x: start + 2, y: top + height + 8 }, `w${window}`);
  const map = svg("rect", { class: "map", x: start, y: top, width: end - start, height, rx: 2 });
  return [svg("g", {}, title, map, bars), text];
}

function blocksOf(branch) {
  if (!branch.block) return "no blocks";
  const { kind, ...options } = branch.block;
  const words = Object.entries(options).map(([name, value]) => `${name} ${value}`);
  return `${branch.depth} × ${kind}${words.length ? ` (${words.join(", ")})` : ""}`;
}

// Which colour is which kind; a map that has no blocks is a bare band.
function kindsKey(arch) {
  const branches = arch.stages.flatMap((stage) => stage.branches);
  const kinds = [...new Set(branches.map((branch) => branch.block?.kind).filter(Boolean))];
  const entries = kinds.map((kind) => [kindClass(kind), kind]);
  if (branches.some((branch) => !branch.block)) entries.push(["map", "no blocks"]);
  return html("p", { class: "key" }, entries.map(([role, text]) => html("span", {}, html("i", { class: role }, "■"), text)));
}
