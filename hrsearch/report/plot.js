"use strict";

const EDGE = { left: 62, right: 20, top: 24, bottom: 50 };
const NEAR = 28; // pixels within which a point answers
let planes = 0;

function scaleOf(axis, from, to) {
  const warp = axis.log ? Math.log10 : (value) => value;
  const unwarp = axis.log ? (value) => 10 ** value : (value) => value;
  const low = warp(axis.low);
  const high = warp(axis.high);
  return {
    at: (value) => from + ((warp(value) - low) / (high - low || 1)) * (to - from),
    value: (place) => unwarp(low + ((place - from) / (to - from)) * (high - low)),
  };
}

// The values with a margin: in shares of a linear axis, or of the decades of a logarithmic one.
function rangeOf(values, log, margin = 0.07) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return { low: 0, high: 1, log: false };
  if (log && low > 0) {
    const factor = 10 ** (high > low ? margin * Math.log10(high / low) : 0.1);
    return { low: low / factor, high: high * factor, log: true };
  }
  const room = high > low ? margin * (high - low) : 0.05;
  return { low: low - room, high: high + room, log: false };
}

function ticksOf(axis, most) {
  return axis.log ? logTicks(axis.low, axis.high, most) : linearTicks(axis.low, axis.high, most);
}

function linearTicks(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high * (1 + 1e-12); index += 1) ticks.push(index * step || 0);
  return ticks;
}

// Round numbers, the coarsest set that has at least four of them, or as many as are wanted.
function logTicks(low, high, most) {
  const fine = Array.from({ length: 90 }, (_, step) => 1 + 0.1 * step);
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8], fine]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    if (ticks.length >= Math.min(4, most)) return ticks.filter((_, index) => index % Math.ceil(ticks.length / most) === 0);
  }
  return [low, high];
}

// Where a pointer is in a drawing, pixels.
function spotIn(drawing, event) {
  const box = drawing.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

// Words beside a point, on the side where there is room.
function tellAt(tip, host, x, y, [title, ...lines]) {
  tip.replaceChildren(html("b", {}, title), ...lines.map((line) => html("div", {}, line)));
  const right = x > host.clientWidth / 2;
  tip.style.left = right ? "" : `${x + 14}px`;
  tip.style.right = right ? `${host.clientWidth - x + 14}px` : "";
  tip.style.top = `${Math.max(4, Math.min(y - 20, host.clientHeight - tip.offsetHeight - 4))}px`;
}

// Axes around something that is painted, with zoom by dragging, hover, click and keys.
// content() gives {label, across, up, marks, paint}: axes as {label, form, low, high, log}, marks as {x, y, words, open},
// and paint(plane), which returns SVG elements placed by plane.x and plane.y.
class Plane {
  constructor(host, content) {
    this.host = host;
    this.content = content;
    this.zoom = null;
    this.current = -1;
    this.clip = `clip${(planes += 1)}`;
    this.svg = svg("svg", { class: "plane", tabindex: 0, role: "application" });
    this.tip = html("div", { class: "tip", role: "status", hidden: "" });
    this.reset = html("button", { type: "button", class: "reset", hidden: "", click: () => this.zoomTo(null) }, "Show all");
    host.append(this.svg, this.tip, this.reset);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(host);
  }

  draw() {
    const width = this.host.clientWidth;
    const height = this.host.clientHeight;
    if (!width || !height) return;
    const { label, across, up, marks, paint } = this.content();
    this.area = { left: EDGE.left, right: width - EDGE.right, top: EDGE.top, bottom: height - EDGE.bottom };
    this.across = this.zoom ? { ...across, ...this.zoom.across } : across;
    this.up = this.zoom ? { ...up, ...this.zoom.up } : up;
    this.x = scaleOf(this.across, this.area.left, this.area.right);
    this.y = scaleOf(this.up, this.area.bottom, this.area.top);
    this.place(marks);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `${label}. Arrow keys go from point to point, Enter opens, plus and minus zoom.`);
    this.svg.dataset.points = String(marks.length);
    const inside = svg("g", { "clip-path": `url(#${this.clip})` }, paint(this));
    this.cursor = svg("circle", { class: "cursor", r: 9, visibility: "hidden" });
    this.frame = svg("rect", { class: "drag", visibility: "hidden" });
    this.svg.replaceChildren(this.clipping(), ...this.axes(), inside, this.cursor, this.frame);
    this.tip.hidden = true;
    this.current = -1;
  }

  place(marks) {
    const { left, right, top, bottom } = this.area;
    for (const mark of marks) {
      mark.px = this.x.at(mark.x);
      mark.py = this.y.at(mark.y);
    }
    this.marks = marks
      .filter(({ px, py }) => px >= left - 1 && px <= right + 1 && py >= top - 1 && py <= bottom + 1)
      .sort((a, b) => a.px - b.px || a.py - b.py);
  }

  clipping() {
    const { left, right, top, bottom } = this.area;
    const box = { x: left - 12, y: top - 20, width: right - left + 30, height: bottom - top + 26 };
    return svg("defs", {}, svg("clipPath", { id: this.clip }, svg("rect", box)));
  }

  axes() {
    const { left, right, top, bottom } = this.area;
    const wide = ticksOf(this.across, Math.max(3, Math.floor((right - left) / 75)));
    const high = ticksOf(this.up, Math.max(3, Math.floor((bottom - top) / 45)));
    return [
      ...wide.map((tick) => svg("line", { class: "grid", x1: this.x.at(tick), x2: this.x.at(tick), y1: top, y2: bottom })),
      ...high.map((tick) => svg("line", { class: "grid", x1: left, x2: right, y1: this.y.at(tick), y2: this.y.at(tick) })),
      svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      ...wide.map((tick) => svg("text", { x: this.x.at(tick), y: bottom + 17, "text-anchor": "middle" }, tickText(this.across.form, tick))),
      ...high.map((tick) => svg("text", { x: left - 8, y: this.y.at(tick) + 4, "text-anchor": "end" }, tickText(this.up.form, tick))),
      svg("text", { class: "title", x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" }, this.across.label),
      svg("text", { class: "title", transform: `translate(15 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, this.up.label),
    ];
  }

  listen() {
    this.svg.addEventListener("pointerdown", (event) => this.grab(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.drop(event));
    this.svg.addEventListener("pointerleave", () => this.show(-1));
    this.svg.addEventListener("dblclick", () => this.zoomTo(null));
    this.svg.addEventListener("keydown", (event) => this.press(event));
    this.svg.addEventListener("blur", () => this.show(-1));
  }

  grab(event) {
    if (event.button) return;
    this.held = { ...spotIn(this.svg, event), drags: event.pointerType !== "touch" };
    if (this.held.drags) this.svg.setPointerCapture(event.pointerId);
  }

  move(event) {
    const { x, y } = spotIn(this.svg, event);
    if (!this.held?.drags) {
      this.show(this.nearest(x, y));
      return;
    }
    const box = { x: Math.min(x, this.held.x), y: Math.min(y, this.held.y), width: Math.abs(x - this.held.x), height: Math.abs(y - this.held.y) };
    for (const [name, value] of Object.entries(box)) this.frame.setAttribute(name, value);
    this.frame.setAttribute("visibility", box.width + box.height > 8 ? "visible" : "hidden");
  }

  drop(event) {
    const from = this.held;
    this.held = null;
    if (!from) return;
    const { x, y } = spotIn(this.svg, event);
    this.frame.setAttribute("visibility", "hidden");
    if (from.drags && Math.abs(x - from.x) > 8 && Math.abs(y - from.y) > 8) this.zoomIn(from, { x, y });
    else this.marks[this.nearest(x, y)]?.open?.();
  }

  press(event) {
    const turn = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (turn && this.marks.length) this.show((this.current + turn + this.marks.length) % this.marks.length);
    else if (event.key === "Enter" && this.current >= 0) this.marks[this.current].open?.();
    else if (event.key === "+" || event.key === "-") this.zoomBy(event.key === "+" ? 0.5 : 2);
    else if (event.key === "Escape" && this.zoom) this.zoomTo(null);
    else return;
    event.preventDefault();
  }

  nearest(x, y) {
    let best = -1;
    let least = NEAR ** 2;
    this.marks?.forEach((mark, index) => {
      const distance = (mark.px - x) ** 2 + (mark.py - y) ** 2;
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  show(index) {
    const mark = this.marks?.[index];
    this.current = mark ? index : -1;
    this.tip.hidden = !mark;
    this.cursor?.setAttribute("visibility", mark ? "visible" : "hidden");
    if (!mark) return;
    this.cursor.setAttribute("cx", mark.px);
    this.cursor.setAttribute("cy", mark.py);
    tellAt(this.tip, this.host, mark.px, mark.py, mark.words());
  }

  zoomIn(from, to) {
    const [left, right] = [from.x, to.x].sort((a, b) => a - b);
    const [top, bottom] = [from.y, to.y].sort((a, b) => a - b);
    this.zoomTo({
      across: { low: this.x.value(left), high: this.x.value(right) },
      up: { low: this.y.value(bottom), high: this.y.value(top) },
    });
  }

  zoomBy(factor) {
    const { left, right, top, bottom } = this.area;
    const mark = this.marks[this.current] ?? { px: (left + right) / 2, py: (top + bottom) / 2 };
    const [width, height] = [((right - left) * factor) / 2, ((bottom - top) * factor) / 2];
    this.zoomIn({ x: mark.px - width, y: mark.py - height }, { x: mark.px + width, y: mark.py + height });
  }

  zoomTo(zoom) {
    this.zoom = zoom;
    this.reset.hidden = !zoom;
    this.draw();
  }
}
