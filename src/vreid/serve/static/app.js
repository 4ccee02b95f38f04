// What every page does: theme, help, messages, images that load, keys. Everything also works without scripts, but less quickly.
import "./upload.js";
import "./compare.js";
import { drawMaps } from "./map.js";
import { onKey } from "./keys.js";

const root = document.documentElement;

export function say(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { toast.textContent = ""; }, 6000);
}

function toggleTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  try { localStorage.setItem("theme", theme); } catch { /* only until the page is left */ }
}

function showProblem(text) {
  const box = document.getElementById("problem");
  box.querySelector("p").textContent = text;
  box.hidden = !text;
  if (text) box.scrollIntoView({ block: "nearest" });
}

// The answer to a request that failed is a page or plain text with one sentence.
function sentenceOf(request) {
  const text = request.responseText || "";
  if (!(request.getResponseHeader("content-type") || "").includes("html")) return text;
  const page = new DOMParser().parseFromString(text, "text/html");
  return page.querySelector("main [role=alert]:not(#problem)")?.textContent.trim() || "The service could not answer.";
}

function shimmer(scope) {
  for (const image of scope.querySelectorAll(".shot img")) {
    if (image.complete) continue;
    const shot = image.parentElement;
    shot.classList.add("loading");
    for (const end of ["load", "error"]) image.addEventListener(end, () => shot.classList.remove("loading"), { once: true });
  }
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-do]");
  if (!target) return;
  const name = target.dataset.do;
  if (name === "theme") toggleTheme();
  if (name === "help") document.getElementById("help").showModal();
  if (name === "close") target.closest("dialog").close();
  if (name === "dismiss") showProblem("");
  if (name === "copy") navigator.clipboard?.writeText(target.dataset.text).then(() => say("Copied."));
});
document.addEventListener("click", (event) => { // beside an open dialog
  if (event.target instanceof HTMLDialogElement && event.target.open) event.target.close();
});
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
});
document.addEventListener("keydown", onKey);

let pressed = null; // button of a decision whose form is replaced
document.addEventListener("htmx:beforeRequest", (event) => {
  showProblem("");
  const form = event.target.closest?.("form.decide");
  const button = form?.contains(document.activeElement) && document.activeElement.className;
  pressed = button ? { dialog: Boolean(form.closest("dialog")), card: form.dataset.card, button } : null;
});
document.addEventListener("htmx:afterRequest", () => {
  if (!pressed) return;
  const { dialog, card, button } = pressed;
  pressed = null;
  document.querySelector(`${dialog ? "dialog" : ".card"} .decide[data-card="${card}"] .${button}`)?.focus();
});
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) location.reload();
  showProblem(sentenceOf(event.detail.xhr));
});
document.addEventListener("htmx:sendError", () => showProblem("The service does not answer. Is it still running?"));
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id === "main") foldFilters();
  shimmer(document);
  drawMaps(document);
});
document.addEventListener("htmx:historyRestore", () => { shimmer(document); drawMaps(document); });

// On a phone the results come first.
function foldFilters() {
  if (!matchMedia("(max-width: 56rem)").matches) return;
  for (const one of document.querySelectorAll("details.filters")) one.open = false;
}

foldFilters();
shimmer(document);
drawMaps(document);
