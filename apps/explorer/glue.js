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
