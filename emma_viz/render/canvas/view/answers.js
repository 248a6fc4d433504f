// What each model answered, with its words to click.
"use strict";
const { dot, make } = require("./elements.js");
const { TIPS } = require("./tips.js");

/** Whether the page can ask for the evidence of a model's words. */
const asks = ({ host, state: { result } }, model) => Boolean(host.attribute && result?.models[model].live);

/** The last words of the phrases that begin with a word and whose evidence came with the result. */
const keptLasts = ({ state: { result } }, model, index) =>
  Object.keys(result?.evidence || {})
    .map((key) => key.split(",").map(Number))
    .filter(([row, first]) => row === model && first === index)
    .map(([, first, last = first]) => last);

/** Whether the evidence for a word, or for a phrase that begins with it, can be had. */
const offered = (stage, model, index) => asks(stage, model) || keptLasts(stage, model, index).length > 0;

const wordOf = (act, model, index, piece) =>
  make("button", {
    type: "button", class: "ev-word", "data-model": String(model), "data-word": String(index), text: piece.trim(),
    title: "Show the image tokens that this word depends on; with Shift, those of all words from the chosen one to it",
    onclick: (event) => (event.shiftKey ? act.extend(model, index) : act.attribute(model, index)),
  }); // prettier-ignore

const wordsOf = (stage, pieces, model) => {
  const nodes = [];
  let unit = null; // what follows a word without a space stays on its line
  pieces.forEach((piece, at) => {
    if (!piece.trim() || !offered(stage, model, at)) {
      unit = null;
      return nodes.push(piece);
    }
    const lead = piece.match(/^\s*/)[0];
    if (lead || !unit) nodes.push(lead, (unit = make("span", { class: "ev-unit" })));
    unit.append(wordOf(stage.act, model, at, piece));
    const tail = piece.slice(lead.length).match(/\s*$/)[0];
    if (tail) {
      nodes.push(tail);
      unit = null;
    }
  });
  return nodes;
};

const cardOf = (stage, model, index, streaming) => {
  const spoken = !streaming && model.words && model.words.some((piece) => piece.trim());
  const nodes = spoken
    ? wordsOf(stage, model.words, index)
    : [(model.answer || "").trim() || (streaming ? "" : "(no answer)")];
  const text = make("p", { class: "ev-answer" }, ...nodes);
  if (streaming && model.busy) text.append(make("i", { class: "ev-caret" }));
  const head = make("header", {}, dot(index), make("b", { text: model.name }));
  if (!streaming)
    head.append(
      make("span", { class: "ev-soft", title: `${TIPS.site} ${model.lens}. ${model.revision}`, text: model.site })
    );
  return make("article", { class: "ev-card" }, head, text);
};

const lostOf = ({ name, message }) =>
  make(
    "div",
    { class: "ev-card ev-lost", role: "alert" },
    make("header", {}, make("b", { text: name })),
    make("p", { text: message })
  );

const notesOf = (notes) =>
  make("ul", { class: "ev-notes", "aria-label": "Notes" }, ...notes.map((text) => make("li", { text })));

/** The answers; while they are `streaming`, as far as they have come. */
const showAnswers = (stage, models, streaming) => {
  const { host, state: { result }, parts: { answers } } = stage; // prettier-ignore
  const nodes = models.map((model, index) => cardOf(stage, model, index, streaming));
  if (!streaming && result) {
    nodes.unshift(
      make("p", { class: "ev-prompt" }, make("span", { class: "ev-soft", text: "Asked: " }), result.prompt)
    );
    nodes.push(...(result.failed || []).map(lostOf));
    if (result.notes?.length) nodes.push(notesOf(result.notes));
  }
  if (!streaming && host.attribute && models.some((model) => !model.live))
    nodes.push(make("p", { class: "ev-soft", text: "A study is open without its models: words show no evidence." }));
  answers.replaceChildren(...nodes);
  markWord(stage);
};

/** Presses the button of the word whose evidence is shown. */
const markWord = ({ state: { word }, parts }) => {
  for (const button of parts.answers.querySelectorAll(".ev-word")) {
    const [model, index] = [Number(button.dataset.model), Number(button.dataset.word)];
    button.setAttribute("aria-pressed", String(Boolean(word && model === word.model && index >= word.index && index <= word.last)));
  }
};

module.exports = { asks, keptLasts, offered, showAnswers, markWord };
