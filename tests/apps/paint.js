// Run by tests/apps/test_one_colour.py: the colours that the canvas and a figure's page give each patch, as JSON.
"use strict";
const path = require("node:path");
const { core } = require(path.join(__dirname, "../../emma_viz/render/canvas/canvas.js"));
const { page, payload, kind, scale, colours, steps, photo } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));

const tables = { map: core.tableOf(page.tables.map), difference: core.tableOf(page.tables.difference) };
const sheets = page.images[0].scopes.map((scope, s) =>
  scope.maps.map((_, layer) => {
    const map = core.sheetMap(page, `0/${s}/${layer}`);
    return [...core.paint(map.values, map.limits, tables[map.table])];
  })
);

const found = core.unpack(payload);
const table = found.tables[colours];
const over = (rgba) => {
  // What a browser does when it lays a tint over the faded photograph.
  const below = core.fade(Uint8ClampedArray.from([...photo, 255]), found.overlay.greying, found.overlay.lightening);
  return [0, 1, 2].map((c) => Math.round((rgba[c] * rgba[3] + below[c] * (255 - rgba[3])) / 255));
};
const canvases = found.models.map((model, m) =>
  steps.map((step) => {
    const [values, limits] = [core.mapOf(model, kind, step[m]), core.limitsOf(model, kind, step[m], scale)];
    const tint = core.tint(values, limits, table, found.overlay);
    const highlight = Array.from({ length: values.length }, (_, i) => over([...tint.slice(4 * i, 4 * i + 4)]));
    return { map: [...core.paint(values, limits, table)], highlight };
  })
);
const first = found.models[0].maps[kind];
const truth = [...core.paint(first.true, Array.isArray(scale) ? scale.map(Math.fround) : first.limits.true[scale], table)];
const differences = steps.map((step) => {
  if (!found.differences["0,1"]) return null;
  const limit = found.differences["0,1"][kind];
  return [...core.paint(core.differenceAt(found.models, kind, step), [-limit, limit], found.tables.RdBu)];
});
process.stdout.write(JSON.stringify({ sheets, canvases, truth, differences }));
