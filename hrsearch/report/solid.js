"use strict";

// All trials over three columns, turned by dragging or with the arrow keys; page keys go along the front.
const A_PIXEL = 0.01; // radians
const A_KEY = Math.PI / 24;
const FLOOR = -1; // the cube goes from -1 to 1 on each axis
const BASES = [[1, 0, 0], [0, 0, 1], [0, 1, 0]]; // the third column stands upright

// The range of what was drawn: a published network ten times as dear would leave a corner to all others.
function drawnAxis(key) {
  const axis = axisOf(key);
  const values = axis.values.filter((_, index) => !(index in DATA.known));
  return values.some((value) => value !== null) ? { ...axis, ...rangeOf(values, axis.best === "minimize") } : axis;
}

class Solid {
  constructor(host, { axes: keys, view }) {
    [this.host, this.keys, this.view] = [host, [...keys], view];
    this.turned = { yaw: 0.62, pitch: 0.42 }; // costs that grow together lie across the view
    this.svg = svg("svg", { class: "plane solid", tabindex: 0, role: "application" });
    this.tip = html("div", { class: "tip", role: "status", hidden: "" });
    host.append(this.svg, this.tip);
    host.before(this.choosers());
    this.svg.addEventListener("pointerdown", (event) => this.grab(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.drop(event));
    this.svg.addEventListener("pointerleave", () => this.tell());
    this.svg.addEventListener("blur", () => this.tell());
    this.svg.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(() => this.draw()).observe(host);
  }

  choosers() {
    const options = Object.entries(DATA.columns).map(([key, { title }]) => [key, title]);
    const one = (title, each) => chooser(title, options, this.keys[each], (key) => { this.keys[each] = key; this.draw(); });
    return html("form", { class: "controls choosers", "aria-label": "Axes" }, ["One side", "Other side", "Upright"].map(one));
  }

  draw() {
    const [width, height] = [this.host.clientWidth, this.host.clientHeight];
    if (!width || !height) return;
    this.middle = { x: width / 2, y: height / 2 - 8, size: Math.min((width - 130) / 2.83, (height - 90) / 3) };
    this.axes = this.keys.map(drawnAxis);
    const scales = this.axes.map((axis) => scaleOf(axis, -1, 1));
    const isInside = (index) => this.axes.every(({ values, low, high }) => values[index] !== null && values[index] >= low && values[index] <= high);
    const known = EVERY.filter(isInside);
    const place = (index) => this.axes.map((axis, each) => scales[each].at(axis.values[index]));
    this.spots = new Map(known.map((index) => [index, place(index)]));
    this.at = (index) => this.onScreen(this.inSpace(this.spots.get(index)));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `${this.axes.map(({ label }) => label).join(", ")}. Arrow keys turn it, Page Down and Page Up go along the front, Enter opens.`);
    this.svg.dataset.points = String(known.length);
    this.svg.replaceChildren(...this.cube(), ...this.painted(known));
  }

  // Columns to a place in the cube.
  inSpace(shares) {
    return [0, 1, 2].map((axis) => BASES.reduce((sum, base, each) => sum + base[axis] * shares[each], 0));
  }

  // The cube turned, seen from far away.
  onScreen([x, y, z]) {
    const { yaw, pitch } = this.turned;
    const [across, away] = [Math.cos(yaw) * x + Math.sin(yaw) * z, Math.cos(yaw) * z - Math.sin(yaw) * x];
    const up = Math.cos(pitch) * y - Math.sin(pitch) * away;
    return [this.middle.x + this.middle.size * across, this.middle.y - this.middle.size * up];
  }

  cube() {
    const ends = [-1, 1];
    const edges = [0, 1, 2].flatMap((axis) => ends.flatMap((one) => ends.map((other) => ends.map((end) => [one, other].toSpliced(axis, 0, end)))));
    const path = edges.map(([from, to]) => `M${this.onScreen(from).join(" ")}L${this.onScreen(to).join(" ")}`).join("");
    return [svg("path", { class: "grid", d: path, fill: "none" }), ...this.axes.flatMap((axis, each) => this.titles(axis, each))];
  }

  // An axis is named along the edge of the cube that is seen furthest outside; its words lie outside of that.
  titles(axis, each) {
    const sides = [[-1, -1], [-1, 1], [1, -1], [1, 1]].map(([one, other]) => (share) => this.onScreen(this.inSpace([one, other].toSpliced(each, 0, share))));
    const upright = each === 2;
    const edge = sides.reduce((best, side) => (upright ? side(0)[0] < best(0)[0] : side(0)[1] > best(0)[1]) ? side : best);
    const out = upright ? [-1, 0] : this.outOf(edge);
    const anchor = out[0] < -0.25 ? "end" : out[0] > 0.25 ? "start" : "middle";
    const write = (share, words, away, role) => {
      const [x, y] = edge(share);
      return svg("text", { class: role, x: x + away * out[0], y: y + away * out[1] + 4, "text-anchor": anchor }, words);
    };
    const scale = scaleOf(axis, -1, 1);
    const ticks = ticksOf(axis, this.middle.size > 110 ? 4 : 2).map((tick) => write(scale.at(tick), tickText(axis.form, tick), 12));
    return [...ticks, this.named(axis, edge(0), out, upright)];
  }

  // Away from the middle of the cube, at right angles to an edge.
  outOf(edge) {
    const [[x1, y1], [x2, y2], [x, y]] = [edge(-1), edge(1), edge(0)];
    const length = Math.hypot(x2 - x1, y2 - y1) || 1;
    const [across, down] = [(y1 - y2) / length, (x2 - x1) / length];
    const outside = across * (x - this.middle.x) + down * (y - this.middle.y) >= 0 ? 1 : -1;
    return [across * outside, down * outside];
  }

  // Its title, above the upright axis, and kept within the drawing.
  named(axis, [x, y], out, upright) {
    const words = axis.form === "ms" ? `${axis.title} (ms)` : axis.title;
    const half = 3.6 * words.length;
    const [left, top] = upright ? [x, y - 1.25 * this.middle.size] : [x + 58 * out[0], y + 58 * out[1]];
    const inside = Math.min(Math.max(left, half + 4), this.host.clientWidth - half - 4);
    return svg("text", { class: "title", x: inside, y: top + 4, "text-anchor": "middle" }, words);
  }

  painted(known) {
    const front = state.fronts[this.view];
    const kept = known.filter((index) => state.kept[index]);
    const drawn = kept.filter((index) => !(index in DATA.known));
    const best = drawn.filter((index) => front.has(index));
    this.front = best.toSorted((one, other) => this.axes[0].values[one] - this.axes[0].values[other]);
    const stems = best.map((index) => `M${this.at(index).join(" ")}L${this.foot(index).join(" ")}`).join("");
    return [
      dots(known.filter((index) => !state.kept[index]), this.at, 4, "faint"),
      svg("path", { class: "interval", d: stems }),
      ...coloured(drawn.filter((index) => !front.has(index)), this.at, 6, "judged"),
      ...coloured(best, this.at, 10, "front"),
      ...kept.filter((index) => index in DATA.known).map((index) => diamond(...this.at(index))),
      this.spots.has(state.chosen) ? ring(...this.at(state.chosen), 11, "chosen") : null,
    ].filter((each) => each);
  }

  // Where a point stands over the floor: without it nobody sees how far away it is.
  foot(index) {
    const [one, other] = this.spots.get(index);
    return this.onScreen(this.inSpace([one, other, FLOOR]));
  }

  grab(event) {
    if (event.button) return;
    this.held = { ...spotIn(this.svg, event), ...this.turned };
    this.svg.setPointerCapture(event.pointerId);
  }

  move(event) {
    const { x, y } = spotIn(this.svg, event);
    if (!this.held) {
      this.tell(this.nearest(x, y));
      return;
    }
    this.turn(this.held.yaw - (x - this.held.x) * A_PIXEL, this.held.pitch + (y - this.held.y) * A_PIXEL);
  }

  drop(event) {
    const from = this.held;
    this.held = null;
    const { x, y } = spotIn(this.svg, event);
    if (!from || Math.hypot(x - from.x, y - from.y) > 4) return;
    const index = this.nearest(x, y);
    if (index !== undefined) openDetails(index);
  }

  press(event) {
    const turn = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const step = { PageDown: 1, PageUp: -1 }[event.key];
    if (turn) this.turn(this.turned.yaw + turn[0] * A_KEY, this.turned.pitch + turn[1] * A_KEY);
    else if (step) this.tell(this.beside(step));
    else if (event.key === "Enter" && this.told !== undefined) openDetails(this.told);
    else return;
    event.preventDefault();
  }

  // The network of the front before or after the one that is told of, in the order of the first column.
  beside(step) {
    const at = this.front.indexOf(this.told);
    return this.front.at(at < 0 ? Math.min(step, 0) : (at + step) % this.front.length);
  }

  turn(yaw, pitch) {
    this.turned = { yaw, pitch: Math.max(0, Math.min(Math.PI / 2, pitch)) };
    this.draw();
    this.tell(this.told);
  }

  nearest(x, y) {
    const near = [...this.spots.keys()].filter((index) => state.kept[index]).map((index) => {
      const [left, top] = this.at(index);
      return [Math.hypot(left - x, top - y), index];
    });
    return near.filter(([distance]) => distance < NEAR).sort((a, b) => a[0] - b[0])[0]?.[1];
  }

  tell(index) {
    this.told = this.spots?.has(index) ? index : undefined;
    this.tip.hidden = this.told === undefined;
    if (!this.tip.hidden) tellAt(this.tip, this.host, ...this.at(index), wordsOf(index));
  }
}
