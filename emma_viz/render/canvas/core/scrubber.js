// The slider over the layers: where it stands, and what moves it.
"use strict";

/** Where the slider goes: a state {step, count, playing, rest} and an event make the next state. */
const scrub = (state, event) => {
  const at = (step, more = {}) => ({
    ...state,
    step: Math.min(Math.max(step, 0), Math.max(state.count - 1, 0)),
    ...more,
  });
  switch (event.type) {
    case "set":
      return at(event.step, { playing: false, rest: 0 });
    case "move":
      return at(state.step + event.by, { playing: false, rest: 0 });
    case "key": {
      const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 4, PageDown: -4 };
      if (event.key in moves) return scrub(state, { type: "move", by: moves[event.key] });
      if (event.key === "Home") return scrub(state, { type: "set", step: 0 });
      if (event.key === "End") return scrub(state, { type: "set", step: state.count - 1 });
      if (event.key === " ") return scrub(state, { type: "play" });
      return state;
    }
    case "wheel": {
      // A mouse sends 100 or 120 a notch, a touch pad many small ones: a step each 60, and one an event at most.
      const rest = state.rest + event.delta;
      const steps = Math.max(-1, Math.min(1, Math.trunc(rest / 60)));
      return at(state.step + steps, { rest: steps ? 0 : rest, playing: steps ? false : state.playing });
    }
    case "play":
      return { ...state, playing: !state.playing && state.count > 1, rest: 0 };
    case "tick":
      return state.playing ? { ...state, step: (state.step + 1) % state.count } : state;
    case "count":
      return { ...state, count: event.count, step: Math.min(state.step, Math.max(event.count - 1, 0)), playing: false };
    default:
      return state;
  }
};

module.exports = { scrub };
