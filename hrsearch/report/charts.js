"use strict";

// Lines, steps and points over two linear axes.
function chart(spec) {
  return () => {
    const all = (name) => spec.traces.flatMap((trace) => trace[name]);
    const across = { ...spec.across, ...rangeOf(all("x"), spec.across.log, 0.03) };
    const up = { ...spec.up, ...rangeOf(all("y"), false, 0.06) };
    if (up.form === "share") up.low = 0;
    const marks = spec.traces.filter((trace) => trace.mode === "points").flatMap((trace) => marksOf(trace, spec));
    return { label: `${up.label} against ${across.label}`, across, up, marks: marks.length ? marks : cornersOf(spec), paint: (plane) => traces(plane, spec) };
  };
}

function marksOf(trace, spec) {
  return trace.x.map((x, place) => {
    const number = trace.trials[place];
    const index = PLACE.get(number);
    const value = `${spec.up.label} ${shown(spec.up.form, trace.y[place])}`;
    const title = number < 0 ? [] : index === undefined ? [`trial ${number}`] : wordsOf(index);
    const words = () => [...title, value, ...(trace.name ? [trace.name] : [])];
    return { x, y: trace.y[place], words, open: index === undefined ? undefined : () => openDetails(index) };
  });
}

// A chart of lines alone says the values at their corners.
function cornersOf(spec) {
  return spec.traces.filter(({ mode }) => mode !== "band").flatMap((trace) => trace.x.map((x, place) => ({ x, y: trace.y[place], trace })))
    .filter(({ x }) => x !== null)
    .map(({ x, y, trace }) => ({ x, y, words: () => [trace.title ?? trace.name, `${spec.across.label} ${shown(spec.across.form, x)}`, `${spec.up.label} ${shown(spec.up.form, y)}`] }));
}

function traces(plane, spec) {
  return spec.traces.flatMap((trace) => {
    if (trace.mode !== "points") return [lineOf(plane, trace), ...(trace.mode === "line" && trace.name ? [nameAt(plane, trace)] : [])];
    const at = (place) => [plane.x.at(trace.x[place]), plane.y.at(trace.y[place])];
    return [dots(trace.x.map((_, place) => place), at, 7, trace.role)];
  });
}

function lineOf(plane, { role, mode, dashed, x, y }) {
  let fresh = true;
  const path = x.map((value, place) => {
    if (value === null) {
      fresh = true;
      return "";
    }
    const [left, top] = [plane.x.at(value).toFixed(1), plane.y.at(y[place]).toFixed(1)];
    const step = fresh ? `M${left} ${top}` : mode === "steps" ? `H${left}V${top}` : `L${left} ${top}`;
    fresh = false;
    return step;
  });
  if (mode === "band") return svg("path", { class: `band ${role}`, d: `${path.join("")}Z` });
  return svg("path", { class: `line ${role}${dashed ? " dashed" : ""}`, d: path.join("") });
}

// Above the end of the line; under it, if it is the dashed one of two and there is room.
function nameAt(plane, { role, dashed, x, y, name }) {
  const right = plane.x.at(x.at(-1)) > (plane.area.left + plane.area.right) / 2;
  const end = plane.y.at(y.at(-1));
  const place = { x: plane.x.at(x.at(-1)) + (right ? -6 : 6), y: end + (dashed && end < plane.area.bottom - 24 ? 18 : -8), "text-anchor": right ? "end" : "start" };
  return svg("text", { class: `name ${role}`, ...place }, name);
}

// Bars beside each other for each place, as plain HTML.
function bars(host, spec) {
  const longest = Math.max(...spec.series.flatMap(({ shares }) => shares), 1e-9);
  const rows = spec.places.map((place, row) => html("div", { class: "bar-row" },
    html("span", {}, place),
    html("span", {}, spec.series.map((series) => html("span", { class: "bar-line" },
      html("i", { class: `bar ${series.role}`, style: `--share:${(series.shares[row] / longest).toFixed(4)}` }),
      html("small", {}, `${shown("share", series.shares[row])} · ${series.texts[row]}`))))));
  const key = html("p", { class: "key" }, spec.series.map(({ role, name }) => html("span", {}, html("i", { class: role }, "■"), name)));
  host.classList.add("bars");
  host.replaceChildren(html("p", { class: "note" }, spec.title), key, ...rows);
}
