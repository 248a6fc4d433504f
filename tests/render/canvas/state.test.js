// What is shown at one moment, and links to it.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { core } = require("../../../emma_viz/render/canvas/canvas.js");

test("links carry a view there and back, and ignore what they do not know", () => {
  const view = {
    image: "ab12",
    models: ["a", "b,c"].slice(0, 1),
    prompt: "Is there a cup? 50 % & more=so",
    layer: -1,
    smooth: null,
    lens: "",
    site: [],
  };
  const link = core.toLink(view);
  assert.equal(link, "image=ab12&models=a&prompt=Is%20there%20a%20cup%3F%2050%20%25%20%26%20more%3Dso&layer=-1");
  assert.deepEqual(core.fromLink("#" + link), { image: "ab12", models: "a", prompt: view.prompt, layer: "-1" });
  assert.deepEqual(core.fromLink("__proto__=1&layer=%E0%A4%A&x=2&patch=7"), { patch: "7" });
});

const model = {
  source: 0,
  grid: [2, 2],
  spans: [[[0, 0.5], [0.5, 1]], [[0, 0.5], [0.5, 1]]],
  layers: [0, 4],
  words: ["a", "b"],
  maps: {
    error: {
      values: Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8]),
      true: [],
      limits: { shared: [0, 9], true: { shared: [1, 2] } },
    },
  },
};
const shown = (change) => ({
  ...core.freshState(), result: { models: [model], tables: { viridis: "v", RdBu: "r" }, differences: { "0,1": { error: 0.5 } } }, steps: [[0], [1]],
  view: { kind: "error", scale: "shared", colours: "viridis", blend: 0.8, smooth: false, pair: [0, 1] }, ...change,
}); // prettier-ignore

test("a link's look is checked: what is not here is named and left as it was", () => {
  const { result, view } = shown();
  const kept = core.lookOf(view, result, {
    kind: "error",
    scale: "-1:2.5",
    colours: "RdBu",
    blend: "0.2",
    smooth: "1",
  });
  assert.deepEqual(kept, {
    view: { kind: "error", scale: [-1, 2.5], colours: "RdBu", blend: 0.2, smooth: true, pair: [0, 1] },
    lost: [],
  });
  const wrong = { kind: "constructor", scale: "2:1", colours: "toString", blend: "7" };
  assert.deepEqual(core.lookOf(view, result, wrong), { view, lost: ["kind", "colours", "scale", "blend"] });
});

test("a link's place is checked against the layers, the grid and the words", () => {
  const { result } = shown();
  const place = (wanted) => core.placeOf(result, wanted, (model, index) => index === 1);
  assert.deepEqual(place({}), { step: null, locked: null, word: null, lost: [] });
  assert.deepEqual(place({ layer: "4", patch: "3", word: "0,1" }), {
    step: 1, locked: { model: 0, patch: 3, region: { top: 1, left: 1, bottom: 1, right: 1 } }, word: { model: 0, index: 1, last: 1, method: "" }, lost: [],
  }); // prettier-ignore
  assert.deepEqual(place({ region: "0,0,1,1" }).locked, {
    model: 0,
    box: true,
    region: { top: 0, left: 0, bottom: 1, right: 1 },
  });
  assert.deepEqual(place({ layer: "3", patch: "4", word: "0,0" }).lost, ["layer", "patch", "word"]);
  for (const region of ["0,0,2,1", "1,0,0,1", "-1,0,0,0", "0,0,1", "a,b,c,d"])
    assert.deepEqual(place({ region }).lost, ["patch"]);
});

test("a view survives its link", () => {
  const region = { top: 0, left: 1, bottom: 1, right: 1 };
  const state = shown({ locked: { model: 0, box: true, region }, word: { model: 0, index: 0, last: 1, method: "frozen" }, scrubber: { step: 1 } });
  state.view = { ...state.view, scale: [0.5, 2], smooth: true, blend: 0.25 };
  const wanted = core.fromLink(core.toLink(core.linkedView(state)));
  assert.deepEqual(core.lookOf(shown().view, state.result, wanted).view, state.view);
  const { step, locked, word } = core.placeOf(state.result, wanted, () => true);
  assert.deepEqual({ step, locked, word }, { step: 1, locked: state.locked, word: state.word });
});

test("a map panel shows the map, and a word's evidence stands beside it, layer by layer where it has layers", () => {
  const map = core.shownMap(shown({ scrubber: { step: 1 } }), 0);
  assert.deepEqual([[...map.values], map.limits, map.table], [[5, 6, 7, 8], [0, 9], "v"]);
  const evidence = core.shownEvidence(shown({ word: { values: [[1, 2]], limit: 3 } }), 0);
  assert.deepEqual(evidence, { values: [1, 2], limit: 3, parts: null });
  assert.equal(core.shownEvidence(shown({ word: { values: [null] } }), 0), null);
  assert.equal(core.shownEvidence(shown(), 0), null);
  const values = [Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8])];
  const layered = shown({ word: { values, limit: 3, layered: true, parts: [["a", "b"]] }, scrubber: { step: 1 } });
  assert.deepEqual([[...core.shownEvidence(layered, 0).values], core.shownEvidence(layered, 0).parts], [[5, 6, 7, 8], "b"]);
  assert.deepEqual(core.trueLimits(shown()), [1, 2]);
  assert.equal(core.differenceLimit(shown()), 0.5);
});

test("the inspector shows what is kept, else what is pointed at, else everything", () => {
  const [locked, hovered] = [{ region: 1 }, { region: 2 }];
  assert.equal(core.chosenNow(shown({ locked, hovered })), locked);
  assert.equal(core.chosenNow(shown({ hovered })), hovered);
  const all = core.chosenNow(shown());
  assert.deepEqual(all, { model: 0, region: { top: 0, left: 0, bottom: 1, right: 1 }, whole: true });
  assert.deepEqual([core.isPatch(all.region), core.isPatch({ top: 1, left: 0, bottom: 1, right: 0 })], [false, true]);
});

test("a page inside a notebook's frame cannot be linked to", () => {
  assert.ok(["http://127.0.0.1:7860/", "https://host/page#layer=3", "file:///saved.html"].every(core.isLinkable));
  assert.ok(!["about:srcdoc", "blob:null/1", "data:text/html,x"].some(core.isLinkable));
});
