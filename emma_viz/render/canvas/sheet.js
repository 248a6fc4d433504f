// A figure's page: its maps painted from raw values, and the pointer linked across all panels of an image.
"use strict";
const { tableOf } = require("./core/bytes.js");
const { paint, tint } = require("./core/colours.js");
const { layerLabel } = require("./core/layers.js");
const { figures, fixed, nearest } = require("./core/numbers.js");
const { boxOf, extentOf, patchAt, pixelsOf, pointBeside, regionOf, runsOf } = require("./core/patches.js");
const { sheetMap } = require("./core/sheets.js");
const { canvasOf, layOut } = require("./view/elements.js");

/** The colours of a map on the canvas of its grid: a pixel each, or laid out where they lie apart. */
const showMap = (panel, pixels, { grid: [rows, columns], spans }) => {
  const context = panel.getContext("2d");
  [panel.height, panel.width] = [rows, columns];
  if (spans.every((axis) => runsOf(axis).length === 1))
    return context.putImageData(new ImageData(pixels, columns, rows), 0, 0);
  const extent = extentOf({ spans });
  [panel.width, panel.height] = spans.map(pixelsOf);
  context.imageSmoothingEnabled = false;
  layOut(context, canvasOf(pixels, columns, rows), { grid: [rows, columns], spans }, extent);
};

/**
 * Paints a figure's page (emma_viz/render/web/html.py writes it) from raw values, and links the pointer across all panels
 * of an image.
 *
 * @param page the document
 * @param data `{tables, strength, rise, images: [{scopes}], charts}`, as emma_viz/render/web/data.py makes it
 */
const sheet = (page, data) => {
  const tables = { map: tableOf(data.tables.map), difference: tableOf(data.tables.difference) };
  for (const panel of page.querySelectorAll("canvas[data-map]")) {
    const map = sheetMap(data, panel.dataset.map);
    const { values, limits, table } = map;
    const over = panel.dataset.paint === "overlay";
    const pixels = over ? tint(values, limits, tables[table], data) : paint(values, limits, tables[table]);
    showMap(panel, pixels, map);
  }
  page.querySelectorAll(".case").forEach((section, image) => probe(section, data, image));
  for (const chart of page.querySelectorAll("svg.chart")) readChart(chart, data.charts[chart.dataset.chart]);
};

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Marks the patch at a point of a grid's place, and prints its values; a point that no patch holds marks none. */
const markPlace = (place, scope, point, data) => {
  const patch = point ? patchAt(scope, point.x, point.y) : null;
  place.classList.toggle("probing", patch !== null);
  for (const slot of place.querySelectorAll("[data-value]")) {
    const value = patch === null ? "" : sheetMap(data, slot.dataset.value).values[patch];
    slot.textContent = patch === null ? "" : Number.isNaN(value) ? "not finite" : figures(value);
  }
  if (patch === null) return;
  const box = boxOf(scope, regionOf(scope, patch));
  for (const [name, share] of [["--pl", box.x], ["--pt", box.y], ["--pw", box.width], ["--ph", box.height]])
    place.style.setProperty(name, `${100 * share}%`); // prettier-ignore
};

const placeText = (scope, point, pinned) => {
  const patch = patchAt(scope, point.x, point.y);
  if (patch === null) return null;
  const columns = scope.grid[1];
  const hint = pinned ? "Pinned; click again to release." : "Click to pin.";
  return `Patch in row ${Math.floor(patch / columns)}, column ${patch % columns}: its raw values are below the maps. ${hint}`;
};

/** One image of a sheet: a point of it, in fractions, marks the patch of every grid and prints its values. */
const probe = (section, data, image) => {
  const { scopes } = data.images[image];
  const places = [...section.querySelectorAll("[data-scope]")];
  const readout = section.querySelector(".readout");
  const idle = readout.textContent;
  let pinned = false;
  let current = null;

  const show = (point) => {
    current = point;
    for (const place of places) markPlace(place, scopes[place.dataset.scope], point, data);
    readout.textContent = (point && placeText(scopes[0], point, pinned)) ?? idle;
  };
  const pointOf = (panel, event) => {
    const box = panel.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  const press = (event) => {
    if (event.key === "Escape") {
      pinned = false;
      return show(null);
    }
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    pinned = true;
    const [left, top, right, bottom] = extentOf(scopes[0]);
    const next = pointBeside(
      scopes[0],
      current || { x: (left + right) / 2, y: (top + bottom) / 2 },
      ...ARROWS[event.key]
    );
    if (next) show(next);
  };
  for (const panel of section.querySelectorAll(".panel")) {
    panel.addEventListener("pointermove", (event) => pinned || show(pointOf(panel, event)));
    panel.addEventListener("pointerleave", () => pinned || show(null));
    panel.addEventListener("click", (event) => {
      pinned = !pinned;
      show(pointOf(panel, event));
    });
    panel.addEventListener("keydown", press);
  }
};

/** A curve of a sheet: the layer nearest to the pointer, with every line's value there. */
const readChart = (chart, curves) => {
  const out = chart.parentElement.querySelector(".chart-values");
  const idle = out.textContent;
  const cross = chart.querySelector(".cross");
  const layers = [...new Set(curves.lines.flatMap((line) => line.points.map((point) => point[0])))];
  const show = (layer) => {
    const x = curves.left + ((layer - curves.first) / (curves.last - curves.first || 1)) * curves.width;
    cross.setAttribute("x1", x);
    cross.setAttribute("x2", x);
    chart.classList.add("on");
    const values = curves.lines.flatMap((line) =>
      line.points.filter((point) => point[0] === layer).map((point) => `${line.name} ${fixed(point[1], curves.digits)}`)
    );
    out.textContent = `${curves.relative ? `depth ${layer.toFixed(2)}` : layerLabel(layer)}: ${values.join(", ")}`;
  };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    show(nearest(layers, curves.first + ((at - curves.left) / curves.width) * (curves.last - curves.first)));
  });
  chart.addEventListener("pointerleave", () => {
    chart.classList.remove("on");
    out.textContent = idle;
  });
};

module.exports = { sheet };
