"use strict";

// Elements are made from parts and texts, never from strings of HTML: no text of a study can become markup.
const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

const html = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

// Numbers as a person writes them; hrsearch.report.words has the same rules.
const SIZES = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [0, ""]];

function digits(value) {
  const size = Math.abs(value);
  return size >= 1e-3 && size < 999.5 ? value.toPrecision(3) : Math.round(value).toLocaleString("en");
}

function shown(form, value) {
  if (value === null || value === undefined) return "–";
  if (form === "score") return value.toFixed(3);
  if (form === "ms") return `${digits(value)} ms`;
  if (form === "share") return `${(100 * value).toFixed(1)} %`;
  if (form === "hours") return `${digits(value)} h`;
  if (form === "plain") return value.toLocaleString("en");
  const [size, suffix] = SIZES.find(([least]) => Math.abs(value) >= least);
  return `${digits(value / (size || 1))} ${suffix}${form === "bytes" ? "B" : ""}`.trim();
}

// A round value without trailing zeros, and without the unit that the axis has.
function tickText(form, value) {
  return shown(form, value).replace(/\.0+(?= |$)|(\.\d*?[1-9])0+(?= |$)/, "$1").replace(/ (ms|h)$/, "");
}
