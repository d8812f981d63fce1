"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// The figures carry their data and their roles; light or dark is the page's business.
function painted(figure) {
  const traces = figure.data.map((trace) => {
    const own = colour(trace.meta.role);
    const painted = { ...trace, textfont: { color: own, size: 12 } };
    if (trace.line) painted.line = { ...trace.line, color: own };
    if (trace.fill) painted.fillcolor = own + "22";
    if (trace.marker) {
      const edge = trace.meta.role === "winner" ? { width: 2 } : { width: 1, color: colour("panel") };
      painted.marker = { ...trace.marker, color: own, line: edge };
    }
    if (trace.error_x) painted.error_x = { ...trace.error_x, color: own };
    return painted;
  });
  const axis = { color: colour("muted"), gridcolor: colour("line"), linecolor: colour("line"), tickcolor: colour("line") };
  const layout = {
    ...figure.layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
    hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("muted"), font: { color: colour("ink") }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("ink") },
    xaxis: { ...figure.layout.xaxis, ...axis },
    yaxis: { ...figure.layout.yaxis, ...axis },
  };
  return [traces, layout];
}

const options = {
  responsive: true,
  displaylogo: false,
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
};

function paint() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    Plotly.react(place, ...painted(FIGURES[place.dataset.figure]), options);
  }
}

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

paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
