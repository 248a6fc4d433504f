// A mounted canvas: what a page does with it, and what it leaves behind. tests/apps/browser does it in a browser.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { makePage } = require("./page.js");
const { document, held } = makePage();
const { mount } = require("../../../emma_viz/render/canvas/canvas.js");
const { payload } = require("./made.js");

const waited = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const until = async (holds) => {
  for (let tried = 0; tried < 500 && !holds(); tried += 1) await waited(10);
};
const place = document.createElement("div");
document.body.append(place);
const shown = (selector) => place.querySelector(selector).textContent;

test("a result is shown, read by keys, and given back with all that is held", async () => {
  const told = [];
  const never = () => new Promise(() => {});
  const host = {
    words: never,
    attribute: never,
    cancel: async () => told.push("cancel"),
    onview: (link) => told.push(link),
  };
  const canvas = mount(place, host);
  canvas.busy({ message: "asking", done: 1, total: 2, models: [{ name: "a", answer: "A", busy: true }] });
  assert.equal(place.querySelectorAll(".ev-blank").length, 2);
  await canvas.update(payload(), { patch: "1" });
  assert.equal(shown(".ev-inspected"), "Patch: row 0, column 1");
  await until(() => place.querySelector("[data-model=\"0\"] [data-number=control]")?.textContent);
  assert.equal(shown('[data-model="0"] [data-number=control]'), "beats its control");
  const dashes = () => [...place.querySelectorAll("canvas[data-paint]")].filter((each) => each.dashes);
  assert.deepEqual(dashes(), []);
  document.send("keydown", { key: "End", target: document.body });
  await until(() => told.at(-1)?.startsWith("layer=1")); // at rest, the page is told
  assert.deepEqual([canvas.step, shown(".ev-where")], [1, "layer 1 of 0–1"]);
  assert.match(shown('[data-model="1"] [data-number=value]'), /^here 4$/);
  assert.equal(shown('[data-model="0"] [data-number=control]'), "\u2020 does not beat its control");
  assert.deepEqual(new Set(dashes().map((each) => each.dataset.paint)), new Set(["decoded", "map", "highlight", "difference"]));
  assert.match(shown("[data-number=difference]"), /^ \u2020/);
  assert.equal(told.at(-1), "layer=1&kind=distance&scale=shared&colours=viridis&patch=1");
  place.querySelector('[data-word="1"]').send("click");
  assert.match(shown(".ev-legend"), /^Evidence for“cup” ✕\+ next wordcomputing…/);
  document.send("keydown", { key: " ", target: document.body });
  canvas.say("a sentence");
  const during = held();
  assert.ok(
    during.document && during.ResizeObserver === 4 && during.MutationObserver && during.setInterval,
    JSON.stringify(during)
  );
  canvas.destroy();
  assert.deepEqual([held(), place.childNodes.length, told.at(-1)], [{}, 0, "cancel"]);
  canvas.destroy();
  await assert.rejects(canvas.update(payload()), /has been destroyed/);
  assert.deepEqual(held(), {});
});

test("the list of keys opens by its key and closes by Esc, before anything else is left", async () => {
  const canvas = mount(place, {});
  await canvas.update(payload(), { patch: "1" });
  const list = place.querySelector(".ev-keylist");
  const press = (key) => document.send("keydown", { key, shiftKey: key === "?", target: document.body });
  assert.equal(list.hidden, true);
  press("?");
  assert.deepEqual([list.hidden, place.querySelector("[aria-label=Keys]").getAttribute("aria-expanded")], [false, "true"]);
  assert.match(list.textContent, /HomeEndthe first layer, the last one/);
  press("Escape");
  assert.deepEqual([list.hidden, canvas.view.patch], [true, 1]);
  press("Escape");
  assert.equal(canvas.view.patch, null);
  canvas.destroy();
  assert.deepEqual(held(), {});
});

test("limits can be typed; what are no limits are marked and change nothing", async () => {
  const canvas = mount(place, {});
  await canvas.update(payload());
  const [scale, low, high] = ["[data-set=scale]", "[data-limit=low]", "[data-limit=high]"].map(
    (selector) => place.querySelector(selector)
  );
  const typed = (box, value) => {
    box.value = value;
    box.send("change");
  };
  assert.equal(place.querySelector(".ev-limits").hidden, true);
  typed(scale, "typed");
  assert.deepEqual([place.querySelector(".ev-limits").hidden, low.value, canvas.view.scale], [false, "0", "0:9"]);
  typed(high, "3");
  assert.equal(canvas.view.scale, "0:3");
  assert.match(shown(".ev-limits"), /0% below, 25% above/);
  for (const wrong of ["", "x", "-1", "Infinity"]) {
    typed(high, wrong);
    assert.deepEqual([canvas.view.scale, high.getAttribute("aria-invalid")], ["0:3", "true"], wrong);
  }
  typed(high, "2.5");
  assert.deepEqual([canvas.view.scale, high.getAttribute("aria-invalid")], ["0:2.5", "false"]);
  typed(scale, "per_map");
  assert.deepEqual([place.querySelector(".ev-limits").hidden, canvas.view.scale], [true, "per_map"]);
  canvas.destroy();
  assert.deepEqual(held(), {});
});

test("a model moves one row up with all that is shown of it, and the difference is of the pair that is chosen", async () => {
  const asked = [];
  const reply = { models: ["AACAPwAAAEA=", "AABAQAAAgEA="], scores: [-1, -2], judged: ["one", "two"], limit: 1, meaning: "", method: "m", help: "" };
  const host = {
    words: async (places) => (asked.push(places), { models: [[[["w", 1]]], [[["v", 1]]]] }),
    attribute: async (...given) => (asked.push(given), reply),
    save: async (format, view) => (asked.push(view), { error: "not now" }),
  };
  const canvas = mount(place, host);
  await canvas.update(payload(), { patch: "1" });
  await waited(30);
  assert.deepEqual(asked.pop(), [1, 1]);
  const names = () => [...place.querySelectorAll(".ev-row header b")].map((each) => each.textContent);
  assert.deepEqual([names(), canvas.view.order], [["a", "b", "Reference"], null]);
  place.querySelector(".ev-up").send("click");
  assert.deepEqual([names(), canvas.view.order], [["b", "a", "Reference"], [1, 0]]);
  assert.equal(document.activeElement.getAttribute("aria-label"), "Move a one row up");
  await waited(30); // the words of the patch are asked for anew
  place.querySelector('[data-model="0"][data-word="1"]').send("click");
  await waited(30);
  assert.deepEqual(asked.pop(), [1, 1, { last: 1, method: "" }]); // the page's own place of the model
  assert.match(shown(".ev-legend"), /log-probability A \u22122, B \u22121A two, B one/);
  place.querySelector(".ev-up").send("click");
  assert.match(shown(".ev-legend"), /log-probability A \u22121, B \u22122A one, B two/);
  const pairs = place.querySelector("[data-set=pair]");
  assert.deepEqual([pairs.value, canvas.view.pair, canvas.view.order], ["0,1", null, null]);
  pairs.value = "1,0";
  pairs.send("change");
  assert.deepEqual(canvas.view.pair, [1, 0]);
  assert.match(place.querySelector("[data-paint=difference] + figcaption").textContent, /difference B \u2212 A/);
  canvas.restore({ order: "1,0" });
  assert.deepEqual([names(), canvas.view.pair], [["b", "a", "Reference"], [1, 0]]);
  place.querySelector("[data-format=csv]").send("click");
  await waited(10);
  const { layers, pair, look } = asked.find((each) => each.look);
  assert.deepEqual([layers, pair, look.order, look.pair], [[0, 0], [1, 0], "1,0", "1,0"]);
  canvas.destroy();
  assert.deepEqual(held(), {});
});

test("runs are listed once there are two, flipped between and pinned", async () => {
  const told = [];
  const host = {
    flip: (run) => told.push(["flip", run]),
    pin: (run, pinned) => told.push(["pin", run, pinned]),
    step: (by) => told.push(["step", by]),
  };
  const canvas = mount(place, host);
  await canvas.update(payload());
  const one = { run: 1, name: "cup", prompt: "What?", about: "a, b", src: "data:,", pinned: false };
  const box = () => place.querySelector(".ev-runs").parent.hidden;
  canvas.runs([one], 1);
  assert.equal(box(), true);
  canvas.runs([{ ...one, run: 2, pinned: true }, one], 1);
  assert.equal(box(), false);
  place.querySelector("[aria-label=Runs]").parent.querySelector("button").send("click");
  assert.equal(place.querySelector(".ev-runs").hidden, false);
  assert.equal(shown("[aria-current=true]"), "cupWhat?a, b");
  place.querySelector('[data-run="2"]').send("click");
  place.querySelector('[data-pin="2"]').send("click");
  document.send("keydown", { key: "[", target: document.body });
  assert.deepEqual(told, [["flip", 2], ["pin", 2, false], ["step", -1]]);
  document.send("keydown", { key: "Escape", target: document.body });
  assert.equal(place.querySelector(".ev-runs").hidden, true);
  canvas.destroy();
  assert.deepEqual(held(), {});
});

test("words are taken together, by Shift or one by one, and their evidence is found as is chosen", async () => {
  const asked = [];
  const one = { models: ["AACAPwAAAEA=", "AABAQAAAgEA="], scores: [-1, -2], judged: ["one", "two"], limit: 4, meaning: "", method: "m", help: "" };
  const layered = { ...one, id: "frozen", layered: true, models: ["AACAPwAAAEAAAEBAAACAQA==", "AACAPwAAAEAAAEBAAACAQA=="], parts: [[[1, 2, 3], [4, -5, 6]], [[0, 0, 0], [0, 0, 0]]] };
  const host = {
    methods: [["gradient", "gradient"], ["frozen", "frozen"]],
    attribute: async (model, word, more) => (asked.push([model, word, more]), more.method === "frozen" ? layered : { ...one, id: "gradient" }),
    without: async (model, word, more) => (asked.push([model, word, more]), { models: [{ fall: 2, low: -1, high: 1, others: 19, beats: true }, null] }),
  };
  const canvas = mount(place, host);
  await canvas.update(payload());
  const words = () => [...place.querySelectorAll(".ev-word")].map((each) => each.getAttribute("aria-pressed") === "true");
  place.querySelector('[data-model="0"][data-word="0"]').send("click");
  await waited(30);
  assert.deepEqual([asked.pop(), canvas.view.word, canvas.view.evidence], [[0, 0, { last: 0, method: "" }], [0, 0], "gradient"]);
  place.querySelector('[data-model="0"][data-word="2"]').send("click", { shiftKey: true });
  await waited(30);
  assert.deepEqual([asked.pop(), canvas.view.word], [[0, 0, { last: 2, method: "gradient" }], [0, 0, 2]]);
  assert.deepEqual(words(), [true, true, true, false, false, false]);
  assert.match(shown(".ev-legend"), /\u201cA cup\.\u201d/);
  const methods = place.querySelector("[data-set=method]");
  methods.value = "frozen";
  methods.send("change");
  await waited(30);
  assert.deepEqual([asked.pop()[2], canvas.view.evidence], [{ last: 2, method: "frozen" }, "frozen"]);
  const parts = () => shown('[data-model="0"] [data-number=evidence]');
  assert.equal(parts(), "image\u00a0+1 text\u00a0+2 bias\u00a0+3");
  document.send("keydown", { key: "End", target: document.body });
  await waited(30);
  assert.equal(parts(), "image\u00a0+4 text\u00a0\u22125 bias\u00a0+6");
  assert.equal(place.querySelector(".ev-without").hidden, true);
  canvas.restore({ patch: "1", word: "0,0,2", evidence: "frozen" });
  await waited(30);
  assert.equal(parts(), "here +4");
  assert.match(shown('[data-model="0"] [data-number=value]'), /^here 4$/); // the map stays beside it
  place.querySelector(".ev-without button").send("click");
  await waited(30);
  assert.deepEqual(asked.pop(), [0, 0, { last: 2, row: 0, region: [0, 1, 0, 1] }]);
  assert.match(shown(".ev-without"), /A2 nats; 19 other places \u22121 to 1: more than any of themBhas no such place/);
  canvas.destroy();
  assert.deepEqual(held(), {});
});

test("a saved page shows the phrase that it has again, in whatever order its rows are, and no other", async () => {
  const reply = { models: ["AACAPwAAAEA=", "AABAQAAAgEA="], scores: [-1, -2], judged: ["one", "two"], limit: 1, meaning: "", method: "m", help: "" };
  const saved = payload();
  for (const model of saved.models) model.live = false;
  const canvas = mount(place, {});
  await canvas.update({ ...saved, evidence: { "0,1,2": reply } });
  await waited(30);
  const seen = () => [canvas.view.word, shown(".ev-legend").match(/“[^”]*”|[AB] −[12]/g)];
  const [word, ...others] = place.querySelectorAll(".ev-word");
  assert.deepEqual([word.textContent, others], ["cup", []]);
  assert.deepEqual(seen(), [[0, 1, 2], ["“cup.”", "A −1", "B −2"]]);
  const press = (row, more) => place.querySelector(`[data-model="${row}"][data-word="1"]`).send("click", more);
  press(0);
  assert.deepEqual(seen(), [null, null]);
  press(0);
  await waited(30);
  assert.deepEqual(seen(), [[0, 1, 2], ["“cup.”", "A −1", "B −2"]]);
  press(0, { shiftKey: true }); // there is nothing else to take with it
  assert.deepEqual(seen(), [null, null]);
  place.querySelector(".ev-up").send("click");
  press(1);
  await waited(30);
  assert.deepEqual(seen(), [[1, 1, 2], ["“cup.”", "A −2", "B −1"]]);
  canvas.destroy();
  assert.deepEqual(held(), {});
});

test("fifty canvases come and go, some before their pictures are drawn, some in the place of another", async () => {
  for (let i = 0; i < 50; i++) {
    const canvas = mount(place, {});
    const coming = canvas.update(payload(), { layer: "1", word: "0,1" });
    if (i % 3) await coming;
    if (i % 10 === 1) await waited(3);
    if ((i + 1) % 5) canvas.destroy();
  }
  place.querySelector(".ev").emma.destroy();
  await waited(5);
  assert.deepEqual([held(), place.childNodes.length], [{}, 0]);
});

test("another result holds no more than the one before, and one that cannot be read leaves it", async () => {
  const canvas = mount(place, {});
  await canvas.update(payload());
  await waited(5);
  const once = held();
  await canvas.update(payload());
  await waited(5);
  assert.deepEqual([held(), canvas.shown], [once, 2]);
  await assert.rejects(canvas.update({ schema: 1 }), /schema 3/);
  assert.equal(canvas.result.prompt, "What?");
  canvas.destroy();
  assert.deepEqual(held(), {});
});
