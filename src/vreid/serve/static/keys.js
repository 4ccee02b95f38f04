// Keys: arrows between the cards, Enter opens, c compares, y and n decide, / goes to the search, ? explains.
const cards = () => [...document.querySelectorAll(".wall .card .shot")];

function columns(all) {
  const top = all[0].getBoundingClientRect().top;
  const row = all.findIndex((card) => card.getBoundingClientRect().top > top + 4);
  return row < 0 ? all.length : row;
}

// The card in the direction of an arrow key; undefined: there is none.
export function neighbour(card, key) {
  const all = cards();
  const at = all.indexOf(card?.querySelector(".shot"));
  if (at < 0) return all[0]?.closest(".card");
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(all), ArrowDown: columns(all) }[key];
  return all[at + step]?.closest(".card");
}

function move(key) {
  const card = neighbour(document.activeElement?.closest?.(".card"), key);
  card?.querySelector(".shot").focus();
  card?.scrollIntoView({ block: "nearest" });
  return Boolean(card);
}

function press(selector) {
  const dialog = document.querySelector("#comparison[open]");
  const scope = dialog || document.activeElement?.closest?.(".card") || document.querySelector("main > .compare");
  const button = scope?.querySelector(selector);
  button?.click();
  return Boolean(button);
}

export function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const writing = event.target.closest("input:not([type=checkbox], [type=file]), select, textarea");
  if (writing) return;
  const open = document.querySelector("dialog[open]");
  const arrow = event.key.startsWith("Arrow");
  let done = false;
  if (arrow && !open && !event.target.closest(".map, .chips")) done = move(event.key);
  else if (event.key === "c" && !open) done = press("a.look");
  else if (event.key === "y") done = press("button.yes");
  else if (event.key === "n") done = press("button.no");
  else if (event.key === "?" && !open) {
    document.getElementById("help").showModal();
    done = true;
  } else if (event.key === "/" && !open) {
    const field = document.querySelector("[data-do=choose]");
    if (field) field.focus();
    else location.href = "/";
    done = true;
  }
  if (done) event.preventDefault();
}
