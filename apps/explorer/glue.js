// Joins the canvas to its component: news come as `value`, questions go to the server's functions.
// Events that Python listens to: none; every question is a call.
const root = element.querySelector(".explorer-canvas");
const waiting = EmmaCanvas.core.fromLink(location.hash);
let wanted = Object.keys(waiting).length ? waiting : null;
let session = null;
let run = null;
let shown = null;
let asked = {};
const ask = async (name, data) => {
  const mine = run;
  const reply = await server[name]({ session, run: mine, ...data });
  if (reply === null || typeof reply !== "object") throw new Error("The server did not answer; is it still running?");
  return reply;
};
const canvas = EmmaCanvas.mount(root, {
  hint: root.dataset.hint.split("|"),
  words: (places) => ask("words", { places }),
  attribute: (model, word) => ask("attribute", { model, word }),
  save: (format, view) => ask("save", { format, ...view }),
  context: () => asked,
  onview: (link) => history.replaceState(null, "", `${location.pathname}${location.search}#${link}`),
});
const take = async () => {
  let news;
  try {
    news = JSON.parse(props.value || "{}");
  } catch {
    return;
  }
  if (news.session) session = news.session;
  if (news.stage === "busy") return canvas.busy(news);
  if (news.stage === "stopped") return canvas.calm();
  if (news.stage === "error") return canvas.fail(news.message);
  if (news.stage !== "ready" || news.run === shown) return;
  run = shown = news.run;
  try {
    const payload = await ask("payload", {});
    if (payload.error) throw new Error(payload.error);
    asked = payload.asked;
    const view = wanted && (!wanted.image || wanted.image === asked.image) ? wanted : null;
    wanted = null;
    await canvas.show(payload, view);
  } catch (error) {
    canvas.fail(error.message);
  }
};
watch("value", take);
take();
