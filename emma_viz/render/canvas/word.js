// The evidence for a word of an answer: asked for, shown in the place of the maps, and taken back.
"use strict";
const { floatsOf } = require("./core/bytes.js");
const { LETTERS } = require("./core/layers.js");
const { figures } = require("./core/numbers.js");
const { inOrder, moved } = require("./core/order.js");
const { markWord } = require("./view/answers.js");
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
    scores: `log-probability ${scores}`,
    judged: (reply.judged || []).map((said, i) => `${LETTERS[i]} ${said}`).join(", "),
    weak: Boolean(reply.weak),
  };
};

/** Shows the evidence for a word, or forgets it when it is the one that is shown. */
const attribute = async (stage, model, index) => {
  const { host, life, state } = stage;
  const { result, generation } = state;
  if (state.word && state.word.model === model && state.word.index === index) return forget(stage);
  const text = result.models[model].words[index].trim();
  const mine = { model, index, text, values: result.models.map(() => null), limit: 1, note: "", help: "", scores: "" };
  state.word = mine;
  markWord(stage);
  showLegend(stage);
  const stop = life.every(POLL, async () => {
    const { done, total } = (await host.progress?.().catch(() => null)) || {};
    if (state.word !== mine) return stop();
    if (!total || found(mine)) return;
    mine.note = `measuring\u2026 ${Math.round((100 * done) / total)} %`;
    showLegend(stage);
  });
  try {
    // What came with the result stands in the order that is shown; what the page says, in its own.
    const known = result.evidence[`${model},${index}`];
    const reply = known || (await host.attribute(result.models[model].source, index));
    if (reply.error) throw new Error(reply.error);
    mine.reply = known || inOrder(reply, state.result.models);
    Object.assign(mine, evidenceOf(mine.reply));
  } catch (error) {
    mine.note = error.message;
  } finally {
    stop();
  }
  if (generation !== state.generation || state.word !== mine) return;
  showLegend(stage);
  stage.act.invalidate();
};

/** The word that is shown, with the models in another order. */
const reorderWord = (word, order) => {
  word.model = order.indexOf(word.model);
  if (!word.reply) return word; // its answer comes to this very object
  word.reply = moved(word.reply, order);
  return Object.assign(word, evidenceOf(word.reply));
};

module.exports = { abandon, attribute, forget, reorderWord };
