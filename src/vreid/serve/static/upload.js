// The image to search for: dropped anywhere on the page, pasted, or chosen.
import { say } from "./app.js";

const KINDS = ["image/jpeg", "image/png", "image/webp"];
const form = () => document.querySelector("form.upload");
let depth = 0; // of nested dragenter events

function veil(shown) {
  const box = document.getElementById("veil");
  if (box) box.hidden = !shown;
}

function search(file) {
  const target = form();
  if (!target) return;
  if (!KINDS.includes(file.type)) {
    say("That is no JPEG, PNG or WebP image.");
    return;
  }
  const most = Number(target.dataset.bytes);
  if (file.size > most) {
    say(`The image has ${(file.size / 1e6).toFixed(1)} MB; at most ${(most / 1e6).toFixed(1)} MB are taken.`);
    return;
  }
  const files = new DataTransfer();
  files.items.add(file);
  target.querySelector("input[type=file]").files = files.files;
  submit(target);
}

function submit(target) {
  if (!target.reportValidity()) return; // a purpose is asked for first; the file is kept
  target.requestSubmit();
}

document.addEventListener("dragenter", (event) => {
  if (!event.dataTransfer?.types.includes("Files") || !form()) return;
  depth += 1;
  veil(true);
});
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) veil(false);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  veil(false);
  const file = event.dataTransfer?.files[0];
  if (file) search(file);
});
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])][0];
  if (file) search(file);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("form.upload input[type=file]") && event.target.files[0]) search(event.target.files[0]);
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-do=choose]")) form()?.querySelector("input[type=file]").click();
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!event.target.matches?.("form.upload")) return;
  const place = document.querySelector(".results");
  place?.classList.add("waiting");
  place?.append(document.getElementById("waiting").content.cloneNode(true));
});
document.addEventListener("htmx:afterRequest", () => {
  document.querySelector(".results.waiting")?.classList.remove("waiting");
  document.querySelector(".skeletons")?.remove();
});
