// The layer canvas: models side by side, every layer at a fingertip, drawn in the browser from one payload.
//
// No library and no request. `core/` are pure functions, which run in Node; `view/` are the parts of the page, each
// drawn from the state; here is what changes it. emma_viz/render/script.py joins the modules into one script, `EmmaCanvas`.
// What a payload holds is described in docs/explorer.md.
"use strict";
const core = {
  ...require("./core/bytes.js"),
  ...require("./core/colours.js"),
  ...require("./core/histogram.js"),
  ...require("./core/layers.js"),
  ...require("./core/lines.js"),
  ...require("./core/links.js"),
  ...require("./core/looks.js"),
  ...require("./core/numbers.js"),
  ...require("./core/order.js"),
  ...require("./core/patches.js"),
  ...require("./core/payload.js"),
  ...require("./core/scrubber.js"),
  ...require("./core/sheets.js"),
  ...require("./core/sizes.js"),
  ...require("./core/state.js"),
};
const { mount } = require("./mount.js");
const { sheet } = require("./sheet.js");

/** Opens a page that was saved with its data inside: a figure's sheet, or the canvas with one view of it. */
const open = (page) => {
  const data = JSON.parse(page.getElementById("data").textContent);
  if (!data.payload) return sheet(page, data);
  const night = matchMedia("(prefers-color-scheme: dark)");
  const dim = () => page.body.classList.toggle("dark", night.matches);
  night.addEventListener("change", dim);
  dim();
  const onview = (link) => core.isLinkable(location.href) && history.replaceState(null, "", `#${link}`);
  const canvas = mount(page.getElementById("canvas"), { onview, context: () => ({ image: data.payload.image.hash }) });
  const view = location.hash.length > 1 ? core.fromLink(location.hash) : data.view;
  return canvas.update(data.payload, view).catch((error) => canvas.fail(error.message));
};

module.exports = { core, mount, sheet, open };
