// Models in another order than they came in; each says by `source` where the page has it.
"use strict";

/** What a pair of models is called, whichever is taken off the other. */
const pairKey = ([one, other]) => [Math.min(one, other), Math.max(one, other)].join();

/** Where each model of the present order goes when `order` says which come first: its inverse. */
const placesIn = (order) => {
  const places = [];
  order.forEach((from, to) => (places[from] = to));
  return places;
};

/** What is said of every model, with the models in another order. */
const moved = (reply, order) => {
  const own = { ...reply };
  for (const key of ["models", "scores", "judged", "parts"])
    if (Array.isArray(reply[key])) own[key] = order.map((from) => reply[key][from]);
  return own;
};

const renamed = (entries, rename) =>
  Object.fromEntries(Object.entries(entries).map(([key, value]) => [rename(...key.split(",").map(Number)), value]));

/** What the page answered for every model, in the order that is shown. */
const inOrder = (reply, models) =>
  moved(
    reply,
    models.map((model) => model.source)
  );

/** What is said of every model, in the order that the page has them in. */
const bySource = (values, models) => {
  const found = [];
  models.forEach((model, index) => (found[model.source] = values[index]));
  return found;
};

/** The result with its models in another order; `order` names the present ones, the first first. */
const reordered = (result, order) => {
  const places = placesIn(order);
  const evidence = renamed(result.evidence, (model, ...words) => [places[model], ...words].join());
  for (const [key, reply] of Object.entries(evidence)) evidence[key] = moved(reply, order);
  return {
    ...result,
    models: order.map((from) => result.models[from]),
    differences: renamed(result.differences, (one, other) => pairKey([places[one], places[other]])),
    evidence,
  };
};

/** The order that a link names, as places among the present models; null where it names none or no such order. */
const orderOf = (text, models) => {
  const wanted = (text || "").split(",").map(Number);
  const found = wanted.map((source) => models.findIndex((model) => model.source === source));
  return wanted.length === models.length && new Set(found).size === models.length && !found.includes(-1) ? found : null;
};

/** The same places with one model moved up by one. */
const movedUp = (count, index) => {
  const order = Array.from({ length: count }, (_, i) => i);
  [order[index - 1], order[index]] = [order[index], order[index - 1]];
  return order;
};

/** The order by the page's own places, as links have it; null where it is that of the page. */
const linkedOrder = (models) => {
  const sources = models.map((model) => model.source);
  return sources.every((source, index) => source === index) ? null : sources;
};

module.exports = { pairKey, placesIn, moved, inOrder, bySource, reordered, orderOf, movedUp, linkedOrder };
