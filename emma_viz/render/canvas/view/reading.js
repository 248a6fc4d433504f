// The words that the models read from one patch, asked for where the pointer rests.
"use strict";
const { percent } = require("../core/numbers.js");
const { bySource, inOrder } = require("../core/order.js");
const { regionOf, translate } = require("../core/patches.js");
const { chosenNow, indexOf, isPatch } = require("../core/state.js");
const { make, renew, tipped } = require("./elements.js");
const { TIPS } = require("./tips.js");

const REST = 120; // milliseconds over a patch until its words are asked for

/** The patch of every model at a patch of one of them; null where a grid does not reach. */
const placesOf = (models, model, patch) =>
  models.map((each, index) => {
    const own = regionOf(models[model], patch);
    const region = index === model ? own : translate(own, models[model], each);
    return region ? region.top * each.grid[1] + region.left : null;
  });

/** Asks the page for a patch's words, unless they are known. */
const askWords = (stage, patch, model) => {
  const { host, life, state } = stage;
  const { reading, generation } = state;
  const key = (reading.asked = `${model}:${patch}`);
  if (reading.found.has(key)) return showWords(stage);
  // A pointer that passes over many patches asks only where it rests.
  stage.timers.asking?.();
  stage.timers.asking = life.after(state.locked ? 0 : REST, async () => {
    if (generation !== state.generation || reading.found.has(key)) return;
    reading.found.set(key, "asking");
    try {
      const { models } = state.result;
      const reply = await host.words(bySource(placesOf(models, model, patch), models));
      reading.found.set(key, reply.error ? { error: reply.error } : inOrder(reply, models));
    } catch (error) {
      reading.found.set(key, { error: error.message });
    }
    if (generation === state.generation) showWords(stage);
  });
};

const wordsOf = (found, index, at) => {
  if (!found || found === "asking") return [make("span", { class: "ev-soft", text: "\u2026" })];
  if (found.error) return [make("span", { class: "ev-soft", text: found.error })];
  return ((found.models[index] || [])[at] || []).map(([text, share]) =>
    make("span", { class: "ev-read", style: `--share:${share}`, text: `${text.trim() || "\u2423"} ${percent(share)}` })
  );
};

/** The words of the chosen patch at the present layer. */
const showWords = ({ host, state, parts }) => {
  if (!host.words) return;
  const single = isPatch(chosenNow(state).region);
  const found = single ? state.reading.found.get(state.reading.asked) : null;
  parts.strips.forEach(({ read }, index) => {
    if (!single) return read.replaceChildren();
    if (!state.result.models[index].live)
      return read.replaceChildren(make("span", { text: "words need the model; a study has none" }));
    renew(read, [tipped("reads", TIPS.words), ...wordsOf(found, index, indexOf(state, index))]);
  });
};

module.exports = { askWords, showWords };
