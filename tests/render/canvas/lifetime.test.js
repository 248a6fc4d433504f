// What a canvas holds outside its element ends with it.
"use strict";
const test = require("node:test");
const assert = require("node:assert/strict");
const { lifetime } = require("../../../emma_viz/render/canvas/lifetime.js");

/** A target that counts its listeners. */
const counting = () => {
  const listeners = new Set();
  return {
    listeners,
    addEventListener: (type, act) => listeners.add(act),
    removeEventListener: (type, act) => listeners.delete(act),
  };
};
const waited = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

test("listeners, observers and timers end together, and nothing begins afterwards", async () => {
  const life = lifetime();
  const target = counting();
  const observer = { on: 0, observe: () => observer.on++, disconnect: () => observer.on-- };
  const ran = [];
  const begin = () => {
    life.listen(target, "click", () => {});
    life.observe(observer, {});
    life.after(5, () => ran.push("after"));
    life.every(5, () => ran.push("every"));
  };
  begin();
  assert.deepEqual([target.listeners.size, observer.on], [1, 1]);
  life.end();
  begin();
  await waited(25);
  assert.deepEqual([target.listeners.size, observer.on, ran, life.over], [0, 0, [], true]);
});

test("one of them can end before the rest, once", async () => {
  const life = lifetime();
  const target = counting();
  const ran = [];
  const first = life.listen(target, "click", () => {});
  life.listen(target, "click", () => {});
  const later = life.after(5, () => ran.push("after"));
  later();
  first();
  first();
  await waited(25);
  assert.deepEqual([target.listeners.size, ran], [1, []]);
});

test("what has run is no longer held", async () => {
  const life = lifetime();
  const ran = [];
  const later = life.after(1, () => ran.push("after"));
  await waited(25);
  later(); // too late, and without effect
  life.end();
  assert.deepEqual(ran, ["after"]);
});
