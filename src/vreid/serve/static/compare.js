// Two vehicles side by side, zoomed and moved together: wheel, drag, double click, + and -, pinch.
import { neighbour } from "./keys.js";

let view = { scale: 1, x: 0, y: 0 }; // of both panes; x and y are shares of a pane's size
let held = new Map(); // pointers that are down
let opener = null; // card that is compared
const panes = () => [...document.querySelectorAll(".pane")];

function draw() {
  view.x = Math.min(0, Math.max(1 - view.scale, view.x));
  view.y = Math.min(0, Math.max(1 - view.scale, view.y));
  for (const pane of panes()) {
    const { width, height } = pane.getBoundingClientRect();
    pane.firstElementChild.style.transform = `translate(${view.x * width}px, ${view.y * height}px) scale(${view.scale})`;
    pane.classList.toggle("zoomed", view.scale > 1);
  }
  const level = document.querySelector(".zoom-level");
  if (level) level.textContent = `${Math.round(100 * view.scale)} %`;
}

// Zoom by a factor around a point, in shares of the pane.
function zoom(factor, x = 0.5, y = 0.5) {
  const scale = Math.min(8, Math.max(1, view.scale * factor));
  view = { scale, x: x - (x - view.x) * (scale / view.scale), y: y - (y - view.y) * (scale / view.scale) };
  draw();
}

function share(pane, event) {
  const box = pane.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

document.addEventListener("wheel", (event) => {
  const pane = event.target.closest(".pane");
  if (!pane) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 300), ...share(pane, event));
}, { passive: false });
document.addEventListener("dblclick", (event) => {
  const pane = event.target.closest(".pane");
  if (pane) zoom(view.scale > 1 ? 1 / view.scale : 3, ...share(pane, event));
});
document.addEventListener("pointerdown", (event) => {
  const pane = event.target.closest(".pane");
  if (!pane) return;
  event.preventDefault();
  held.set(event.pointerId, event);
  pane.setPointerCapture(event.pointerId);
});
document.addEventListener("pointermove", (event) => {
  const before = held.get(event.pointerId);
  const pane = event.target.closest?.(".pane");
  if (!before || !pane) return;
  const box = pane.getBoundingClientRect();
  const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
  if (other) {
    const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    zoom(distance(event) / Math.max(1, distance(before)), ...share(pane, other));
  } else {
    view.x += (event.clientX - before.clientX) / box.width;
    view.y += (event.clientY - before.clientY) / box.height;
    draw();
  }
  held.set(event.pointerId, event);
});
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, (event) => held.delete(event.pointerId));

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-zoom]");
  if (button) zoom(Number(button.dataset.zoom) || 1 / view.scale);
  const thumb = event.target.closest(".strip button");
  if (thumb) {
    const section = thumb.closest("section");
    section.querySelector(".pane img").src = thumb.dataset.crop;
    for (const one of section.querySelectorAll(".strip button")) one.setAttribute("aria-pressed", one === thumb);
  }
  const link = event.target.closest("a.look");
  if (link) opener = link.closest(".card");
  const step = event.target.closest("[data-step]");
  if (step) beside(step.dataset.step);
});

// Compare the card before or after.
function beside(key) {
  const card = opener && neighbour(opener, key);
  card?.querySelector("a.look")?.click();
}

document.addEventListener("keydown", (event) => {
  if (!panes().length || event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey) return;
  const dialog = document.getElementById("comparison");
  if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") zoom(1 / view.scale);
  else if (dialog.open && (event.key === "ArrowLeft" || event.key === "ArrowRight")) beside(event.key);
  else return;
  event.preventDefault();
});

document.addEventListener("htmx:afterSwap", (event) => {
  const dialog = document.getElementById("comparison");
  if (event.detail.target?.id !== "comparison-content") return;
  view = { scale: 1, x: 0, y: 0 };
  held = new Map();
  if (!dialog.open) dialog.showModal();
  draw();
});
document.getElementById("comparison")?.addEventListener("close", () => {
  document.getElementById("comparison-content").replaceChildren();
  opener?.querySelector(".shot")?.focus();
});
