// The maps of a figure's page.
"use strict";
const { floatsOf } = require("./bytes.js");

// "0/1/4" names image 0, scope 1, layer 4 of a sheet's maps.
const sheetMap = (data, address) => {
  const [image, scope, layer] = address.split("/");
  const found = data.images[image].scopes[scope];
  const { values, limits } = found.maps[layer];
  return { ...found, limits, values: floatsOf(values) };
};

module.exports = { sheetMap };
