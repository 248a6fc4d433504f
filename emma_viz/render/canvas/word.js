// The evidence for a word of an answer: asked for, shown in the place of the maps, and taken back.
"use strict";
const { floatsOf } = require("./core/bytes.js");
const { LETTERS } = require("./core/layers.js");
const { figures } = require("./core/numbers.js");
const { inOrder, moved } = require("./core/order.js");
const { asks, keptLasts, markWord } = require("./view/answers.js");
const { showInspector } = require("./view/inspector.js");
const { showLegend } = require("./view/legend.js");

const POLL = 700; // milliseconds between two questions of how far a measurement is

const found = (word) => word.values.some(Boolean);

/** Ends the question for a word's evidence, if its answer has not come. */
const abandon = ({ host, state: { word } }) => {
  if (word && !found(word)) host.cancel?.().catch(() => {});
};

/** The maps again. */
const forget = (stage) => {
  abandon(stage);
  stage.state.word = null;
  markWord(stage);
  showLegend(stage);
  showInspector(stage);
  stage.act.invalidate();
};

const evidenceOf = (reply) => {
  const values = reply.models.map((each) => (each ? floatsOf(each) : null));
  const scores = reply.scores.map((score, i) => `${LETTERS[i]} ${figures(score, 2)}`).join(", ");
  return {
    values,
    limit: reply.limit,
    negligible: reply.negligible,
    meaning: reply.meaning,
    note: reply.method,
    help: reply.help,
    method: reply.id || "",
    layered: Boolean(reply.layered),
    parts: reply.parts || null,
    scores: `${reply.scored || "log-probability"} ${scores}`,
    judged: (reply.judged || []).map((said, i) => `${LETTERS[i]} ${said}`).join(", "),
    weak: Boolean(reply.weak),
  };
};

/** The last of the words that are shown: of a page that cannot ask, those of the phrase that it has. */
const lastOf = (stage, model, index, wanted) => {
  const kept = asks(stage, model) ? [] : keptLasts(stage, model, index);
  return kept.includes(wanted) ? wanted : (kept[0] ?? wanted);
};

/** Under what a saved page keeps the evidence of words. */
const keyOf = ({ model, index, last }) => [model, index, ...(last > index ? [last] : [])].join();

/** Shows the evidence for words, or forgets it when it is the one that is shown: {last, method} of several, otherwise. */
const attribute = async (stage, model, index, { last: to = index, method = stage.state.word?.method || "" } = {}) => {
  const { host, life, state } = stage;
  const { result, generation, word } = state;
  const last = lastOf(stage, model, index, to);
  const same = word && word.model === model && word.index === index && word.last === last;
  if (same && word.method === method) return forget(stage);
  const text = result.models[model].words.slice(index, last + 1).join("").trim();
  const values = result.models.map(() => null);
  const mine = { model, index, last, method, text, values, limit: 1, note: "", help: "", scores: "", without: null };
  state.word = mine;
  const shown = () => {
    markWord(stage);
    showLegend(stage);
    showInspector(stage);
    stage.act.invalidate();
  };
  shown();
  const stop = life.every(POLL, async () => {
    const { done, total } = (await host.progress?.().catch(() => null)) || {};
    if (state.word !== mine) return stop();
    if (!total || found(mine)) return;
    mine.note = `measuring\u2026 ${Math.round((100 * done) / total)} %`;
    showLegend(stage);
  });
  try {
    // What came with the result stands in the order that is shown; what the page says, in its own.
    const known = result.evidence[keyOf(mine)];
    const reply = known || (await host.attribute(result.models[model].source, index, { last, method }));
    if (reply.error) throw new Error(reply.error);
    mine.reply = known || inOrder(reply, state.result.models);
    Object.assign(mine, evidenceOf(mine.reply));
  } catch (error) {
    mine.note = error.message;
  } finally {
    stop();
  }
  if (generation === state.generation && state.word === mine) shown();
};

/** The evidence for all words from the chosen one to another of the same answer; of that one alone where none is. */
const extend = (stage, model, to) => {
  const { word } = stage.state;
  if (!word || word.model !== model || !asks(stage, model)) return attribute(stage, model, to);
  const [index, last] = [Math.min(word.index, to), Math.max(word.index, to)];
  return attribute(stage, model, index, { last });
};

/** What the words lose without the place that is kept, beside other places of its shape. */
const measureWithout = async (stage) => {
  const { host, state } = stage;
  const { word, locked, result } = state;
  const { top, left, bottom, right } = locked.region;
  const mine = (word.without = { place: locked, note: "measuring\u2026", models: null });
  showInspector(stage);
  try {
    const asked = { last: word.last, row: result.models[locked.model].source, region: [top, left, bottom, right] };
    const reply = await host.without(result.models[word.model].source, word.index, asked);
    if (reply.error) throw new Error(reply.error);
    mine.models = inOrder(reply, state.result.models).models;
    mine.note = "";
  } catch (error) {
    mine.note = error.message;
  }
  if (state.word === word) showInspector(stage);
};

/** The word that is shown, with the models in another order. */
const reorderWord = (word, order) => {
  word.model = order.indexOf(word.model);
  word.without = null;
  if (!word.reply) return word; // its answer comes to this very object
  word.reply = moved(word.reply, order);
  return Object.assign(word, evidenceOf(word.reply));
};

module.exports = { abandon, attribute, extend, forget, measureWithout, reorderWord };
