"use strict";
// Draws the charts when Plotly's packed script is unpacked, in the colours of the page's theme, and again when it changes.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const LINES = { light: ["#d55e00", "#0072b2", "#009e73", "#a8538c"], dark: ["#f19a52", "#6bb5ea", "#4fc9a2", "#e0a0c8"] };

const PATTERNS = [".", "/", "x"];

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function themed(figure) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const hair = style.getPropertyValue("--hair").trim();
  const colours = LINES[dark.matches ? "dark" : "light"];
  const data = figure.data.map((trace) => {
    if (!trace.meta) return trace;
    const colour = colours[trace.meta.model % colours.length];
    const copy = { ...trace };
    if (trace.meta.band) copy.fillcolor = colour + "2e";
    else if (trace.type === "bar") {
      copy.marker = { color: colour };
      if (trace.meta.control) copy.marker = { color: colour, opacity: 0.55, pattern: { shape: PATTERNS[trace.meta.control % PATTERNS.length], fillmode: "replace" } };
    }
    else {
      copy.line = { ...(trace.line || {}), color: colour };
      copy.marker = { color: colour, size: 6, symbol: ["circle", "square", "triangle-up", "diamond"][trace.meta.model % 4] };
      if (trace.meta.control) copy.opacity = 0.6;
    }
    if (copy.error_y) copy.error_y = { ...copy.error_y, color: ink, thickness: 1.2 };
    return copy;
  });
  const layout = { ...figure.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13, family: "system-ui, sans-serif" } };
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis/.test(key)) layout[key] = { ...layout[key], gridcolor: hair, zerolinecolor: hair, linecolor: hair, automargin: true };
  }
  return { data, layout };
}

function draw(figures) {
  for (const [name, figure] of Object.entries(figures)) {
    const { data, layout } = themed(figure);
    Plotly.react(document.getElementById(name), data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}

(async () => {
  const figures = JSON.parse(document.getElementById("charts").textContent);
  const script = document.createElement("script");
  script.textContent = await unpack(document.getElementById("plotly").textContent);
  document.head.append(script);
  draw(figures);
  dark.addEventListener("change", () => draw(figures));
  document.documentElement.dataset.drawn = "yes";
})();
