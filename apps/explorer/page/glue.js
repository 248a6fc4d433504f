// Joins the canvas to its component: news come as `value`, questions go to the server's functions.
// Events that Python listens to: none; every question is a call.
const root = element.querySelector(".explorer-canvas");
const waiting = EmmaCanvas.core.fromLink(location.hash);
let wanted = Object.keys(waiting).length ? waiting : null;
let session = null;
let run = null;
let shown = 0;
let asked = {};
const runs = new Map(); // number → {payload, asked, answered, pinned, order}: what can be flipped between
const ask = async (name, data) => {
  const mine = run;
  const reply = await server[name]({ session, run: mine, ...data });
  if (reply === null || typeof reply !== "object") throw new Error("The server did not answer; is it still running?");
  return reply;
};
const canvas = EmmaCanvas.mount(root, {
  hint: root.dataset.hint.split("|"),
  words: (places) => ask("words", { places }),
  attribute: (model, word, more) => ask("attribute", { model, word, ...more }),
  without: (model, word, more) => ask("without", { model, word, ...more }),
  methods: JSON.parse(root.dataset.methods),
  progress: () => ask("progress", {}),
  cancel: () => ask("cancel", {}),
  save: (format, view) => ask("save", { format, ...view }),
  flip: (to) => flip(to),
  step: (by) => flip(numbers()[numbers().indexOf(run) + by]),
  pin: (which, pinned) => pin(which, pinned),
  mask: (model, { top, left, bottom, right }) => mask(model, [top, left, bottom, right]),
  context: () => asked,
  onview: (link) => {
    // A new result is a step that Back undoes; a new look at it is not.
    const address = `${location.pathname}${location.search}#${link}`;
    const same = parts(location.hash) === parts(`#${link}`) || location.hash.length < 2;
    history[same ? "replaceState" : "pushState"](null, "", address);
  },
});
const ASKED = ["image", "models", "prompt", "lens", "site", "tokens"];
const parts = (link) => {
  const view = EmmaCanvas.core.fromLink(link);
  return JSON.stringify(ASKED.map((key) => view[key] || ""));
};

// An address that changes under the open page: another view of the result that is shown, or another result.
const follow = () => {
  const view = EmmaCanvas.core.fromLink(location.hash);
  if (!Object.keys(view).length) return;
  if (asked.image && parts(location.hash) === parts(`#${EmmaCanvas.core.toLink(asked)}`)) return canvas.restore(view);
  wanted = view;
  settling = true;
  document.querySelector("#explorer-follow")?.click();
};
addEventListener("popstate", follow);

// What is chosen beside the canvas, and whether the result still answers it.
let chosen = null;
let answered = null;
const STALE = "This result answers what was chosen before: press Run for what is chosen now.";
const compare = () => {
  const old = Boolean(answered && chosen && chosen !== answered);
  element.querySelector(".ev").classList.toggle("ev-stale", old);
  if (!dead) canvas.notice(old ? STALE : "");
};
window.explorerChosen = (image, ...others) => {
  chosen = JSON.stringify([image?.path, ...others]);
  if (settling) answered = chosen;
  compare();
};
let settling = Boolean(wanted); // while a link's values come
let started = null;

// A server that is gone is noticed, and so is another one in its place.
let dead = false;
let serverId = null;
const check = async () => {
  if (document.hidden) return;
  let id = null;
  try {
    const reply = await fetch("gradio_api/app_id", { signal: AbortSignal.timeout(8000), cache: "no-store" });
    id = reply.ok ? JSON.stringify(await reply.json()) : null;
  } catch {
    id = null;
  }
  serverId ??= id;
  const now = id === null ? "gone" : id === serverId ? "" : "new";
  const said = { gone: "The server does not answer: it has ended, or the network is down. What is shown stays.", new: "The server was started anew: reload the page to ask it something." }[now];
  if (now && asking) hear({ stage: "error", ask: asking, message: said });
  if (now !== (dead || "")) {
    dead = now || false;
    canvas.notice(said || "");
    compare();
  }
};
setInterval(check, 4000);
check();

// Every question has a ticket, and the news about it have it too. The page is busy with the newest ticket that is not
// over: late words about an older one change nothing, and every end of a run comes through `end`.
let asking = 0;
let over = 0;
let heard = null;
const stage = (busy) => {
  // Run becomes Stop and comes back: who pressed one has the other under the finger.
  const pressed = ["explorer-run", "explorer-stop"].includes(document.activeElement?.id);
  document.body.classList.toggle("explorer-busy", busy);
  if (pressed) document.querySelector(busy ? "#explorer-stop" : "#explorer-run")?.focus({ preventScroll: true });
};
const begin = (ticket) => {
  const first = !asking;
  asking = ticket;
  started = chosen;
  settling = Boolean(wanted);
  if (first) stage(true);
  if (first && innerWidth < 900) root.scrollIntoView({ behavior: "smooth", block: "start" });
};
const end = (ticket) => {
  over = Math.max(over, ticket);
  if (!asking || asking > over) return;
  asking = 0;
  stage(false);
};
const halt = (ticket) => void ask("stop", { ask: ticket }).catch(() => {}); // a server that is gone runs nothing
window.explorerAsk = (ticket) => {
  if (asking) halt(ticket - 1);
  hear({ stage: "busy", ask: ticket, message: "waiting for the models" });
  return ticket;
};
window.explorerStop = () => {
  halt(window.explorerTicket);
  end(window.explorerTicket);
  canvas.calm();
};
window.explorerFailed = () => {
  if (asking) hear({ stage: "error", ask: asking, message: "The server did not take this run; bring the image again." });
};
const hear = (news) => {
  const { stage: now, ask: ticket = 0 } = news;
  if (now === "busy") {
    if (ticket <= over || ticket < asking) return;
    if (ticket !== asking) begin(ticket);
    heard = news;
    return canvas.busy(news);
  }
  const mine = ticket === asking;
  if (ticket) end(ticket);
  if (now === "ready") return show(news);
  if (ticket && !mine) return;
  if (now === "none") return canvas.fail("This run was ended before it had an answer; press Run again.");
  if (now !== "error") return;
  if (asking) canvas.say(news.message);
  else canvas.fail(news.message);
};

// Pictures to choose from are called what they show.
const name = () => {
  for (const button of document.querySelectorAll(":is(#explorer-examples, #explorer-images) .thumbnail-item")) {
    const alt = button.querySelector("img")?.alt;
    if (alt && button.getAttribute("aria-label") !== alt) button.setAttribute("aria-label", alt);
  }
};
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
name();
// What is asked of the server is about `run`: it changes with the picture, and goes back where that cannot be shown.
const put = async (number, payload, view) => {
  const before = [run, asked];
  run = number;
  asked = payload.asked;
  try {
    await canvas.update(payload, view);
  } catch (error) {
    if (run === number) [run, asked] = before;
    throw error;
  }
};
// What a run answers, if it is still the one that is shown.
const answer = (number, question) => {
  if (run !== number) return;
  answered = question;
  compare();
};
const show = async (news) => {
  if (news.run <= shown) return;
  shown = news.run;
  const question = started; // another one may begin before the reply is here
  started = null;
  try {
    const payload = await ask("payload", { run: news.run });
    if (payload.error) throw new Error(payload.error);
    if (shown !== news.run) return remember(news.run, payload, question); // a newer one is on its way, or there
    const view = wanted && (!wanted.image || wanted.image === payload.asked.image) ? wanted : null;
    wanted = null;
    await put(news.run, payload, view);
    const own = settling ? chosen : (question ?? chosen);
    settling = false;
    remember(news.run, payload, own);
    answer(news.run, own);
    if (asking) canvas.busy(heard);
  } catch (error) {
    if (shown === news.run && !asking) canvas.fail(error.message);
  }
};

// The runs of this page. The server keeps as many, and answers questions about them; what they show needs no request.
const MOST_RUNS = Number(root.dataset.runs);
const numbers = () => [...runs.keys()].sort((one, other) => one - other); // replies may come out of order
const list = () => {
  const newest = [...runs].sort(([one], [other]) => other - one);
  const entries = newest.map(([number, { payload, pinned }]) => ({
    run: number, pinned, name: payload.image.name, prompt: payload.prompt, src: payload.image.src,
    about: ["models", "lens", "site"].map((key) => payload.asked[key].filter(Boolean).join(", ")).filter(Boolean).join(" \u00b7 "),
  })); // prettier-ignore
  canvas.runs(entries, run);
};
const remember = (number, payload, question) => {
  const same = JSON.stringify(payload.asked);
  let pinned = false;
  for (const [other, each] of runs)
    if (JSON.stringify(each.payload.asked) === same) {
      if (other > number) return;
      pinned ||= each.pinned;
      runs.delete(other);
    }
  runs.set(number, { payload, pinned, answered: question, order: null });
  for (const other of numbers())
    if (runs.size > MOST_RUNS && other !== number && !runs.get(other).pinned) runs.delete(other);
  list();
};
const flip = async (to) => {
  const found = runs.get(to);
  if (!found || to === run || asking) return;
  // The place and the look stay; a word and the order of models are the run's own.
  const { word, order, ...seen } = canvas.view;
  const left = runs.get(run);
  if (left) left.order = order;
  const text = EmmaCanvas.core.fromLink(EmmaCanvas.core.toLink({ ...seen, order: found.order }));
  await put(to, found.payload, { ...text, quiet: true });
  answer(to, found.answered);
  list();
};
// A run without a place is a link to the image without it: it takes the way of a link that is pasted.
const mask = async (model, region) => {
  try {
    if (asking) throw new Error("A run goes on; wait for its end, or stop it.");
    const reply = await ask("mask", { model, region });
    if (reply.error) throw new Error(reply.error);
    const link = EmmaCanvas.core.toLink({ ...canvas.view, image: reply.image, word: null });
    history.pushState(null, "", `${location.pathname}${location.search}#${link}`);
    follow();
  } catch (error) {
    canvas.say(error.message);
  }
};
const pin = async (which, pinned) => {
  try {
    const reply = await server.pin({ session, run: which, pinned });
    if (reply.error) throw new Error(reply.error);
    runs.get(which).pinned = pinned;
    list();
  } catch (error) {
    canvas.say(error.message);
  }
};
const take = () => {
  let news;
  try {
    news = JSON.parse(props.value || "{}");
  } catch {
    return;
  }
  if (news.session) session = news.session;
  if (news.lost?.length) canvas.say(`Not restored from the link: ${news.lost.join(", ")}.`);
  hear(news);
};
watch("value", take);
take();

// A drop anywhere and Ctrl+V go the way of a chosen file; what can be refused by its type or size is never sent.
const limit = Number(root.dataset.limit);
const refusal = (file) => {
  if (file.type && !file.type.startsWith("image/")) return `${file.name} is not an image.`;
  return file.size > limit ? `${file.name} has more than ${Math.round(limit / 2 ** 20)} MB; make it smaller.` : null;
};
const bring = (event) => {
  const chooser = document.querySelector("#explorer-image input[type=file]");
  const source = event.type === "change" ? event.target : event.dataTransfer || event.clipboardData;
  if (!source?.files?.length || (event.type === "change" && event.target !== chooser)) return;
  if (event.type === "drop") event.preventDefault(); // else the browser leaves the page and opens the file
  if (!chooser) return;
  const refused = refusal(source.files[0]);
  const direct = event.type === "change" || event.target.closest?.("#explorer-image button.upload-container:not(.hidden)");
  if (!refused && direct && event.type !== "paste") return; // Gradio takes it
  event.preventDefault();
  event.stopImmediatePropagation();
  if (event.type === "drop") event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true }));
  if (refused) {
    chooser.value = "";
    return canvas.fail(refused);
  }
  chooser.files = source.files;
  chooser.dispatchEvent(new Event("change", { bubbles: true }));
};
for (const type of ["change", "drop", "paste"]) document.addEventListener(type, bring, true);
document.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); // this lets a drop happen
});
