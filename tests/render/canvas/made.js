// A payload of two small models, made up.
"use strict";

const PICTURE =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAADCAIAAAA7ljmRAAAAEElEQVR42mNYZWMDRww4OQAOcg2Z7uIpFgAAAABJRU5ErkJggg==";
const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const floats = (values) => base64(new Uint8Array(Float32Array.from(values).buffer));
const table = "000000".repeat(256);
const limits = { shared: [0, 9], per_row: [0, 9], per_map: [[0, 9], [0, 9]], true: { shared: [0, 9] } }; // prettier-ignore
const model = (name) => ({
  name, revision: "", site: "resid_post", answer: "A cup.", words: ["A", " cup", "."], live: true, layers: [0, 1], n_layer: 2,
  grid: [1, 2], patch: 1, spans: [[[0, 0.5], [0.5, 1]], [[0], [1]]], decoded: { encoding: "raw", data: base64(new Uint8Array(12)) }, truth: base64(new Uint8Array(6)),
  maps: { distance: { values: floats([1, 2, 3, 4]), true: floats([5, 6]), correlation: [0.5, null], limits } },
  scores: { r2: [0.2, 0.4] }, lens: "", lens_kind: "ridge", lens_quality: [null, { r2: 0.3 }], forced: [],
  controls: [{ beats: true, said: "beats a lens" }, { beats: false, said: "does not beat a lens" }],
}); // prettier-ignore
const payload = () => ({
  schema: 3, image: { name: "cup", hash: "ab", size: [4, 3], uniform: false, src: PICTURE }, prompt: "What?",
  kinds: [{ id: "distance", name: "distance", label: "Distance", help: "" }], tables: { viridis: table, RdBu: table },
  differences: { "0,1": { distance: 1 } }, overlay: { greying: 0, lightening: 0, rise: 1, strength: 1 }, models: [model("a"), model("b")],
}); // prettier-ignore

module.exports = { payload };
