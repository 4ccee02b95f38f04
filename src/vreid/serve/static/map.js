// Maps of cameras: positions on a plain ground, without tiles. The data are in the elements of [data-places].
/* global L */

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

// Half the width of a mark: several steps need a longer one.
const reach = (place) => (place.step ? Math.max(11, 4 * place.step.length + 5) : 7);

function icon(place) {
  const svg = element("svg", { viewBox: "-22 -22 44 44", "aria-hidden": "true" });
  if (place.heading) element("path", { class: "cone", d: "M0 0 L-11 -21 A24 24 0 0 1 11 -21 Z", transform: `rotate(${place.heading})` }, svg);
  const wide = reach(place);
  const high = place.step ? 11 : 7;
  element("rect", { class: "dot", x: -wide, y: -high, width: 2 * wide, height: 2 * high, rx: high }, svg);
  if (place.step) element("text", { y: 0.5 }, svg).textContent = place.step;
  return L.divIcon({ html: svg, className: place.step ? "place step" : "place", iconSize: [44, 44] });
}

// Whether a camera looks to the east: its name stands on the other side then.
const east = (place) => Number(place.heading ?? 270) < 180;

export function drawMaps(scope) {
  for (const box of scope.querySelectorAll(".map:not(.drawn)")) {
    if (typeof L === "undefined") return;
    box.classList.add("drawn");
    const places = [...document.querySelectorAll(`${box.dataset.places} [data-latitude]`)].map((one) => ({
      at: [Number(one.dataset.latitude), Number(one.dataset.longitude)],
      heading: one.dataset.heading,
      step: one.dataset.step,
      name: one.dataset.name,
      link: one.dataset.link,
    }));
    const map = L.map(box, { attributionControl: false, zoomSnap: 0.25, maxZoom: 20 });
    L.control.scale({ imperial: false }).addTo(map);
    const ways = [...document.querySelectorAll(`${box.dataset.ways} [data-ends]:not([data-ends=""])`)].map((one) => ({
      ends: one.dataset.ends.split(",").map(Number),
      count: Number(one.dataset.count),
    }));
    const most = Math.max(1, ...ways.map((way) => way.count));
    for (const { ends: [a, b, c, d], count } of ways) {
      const weight = box.dataset.route ? 1.5 : 1.5 + (5 * count) / most;
      const line = L.polyline([[a, b], [c, d]], { className: "way", weight, interactive: false }).addTo(map);
      if (!box.dataset.route && ways.length <= 30) line.bindTooltip(String(count), { permanent: true, direction: "center", className: "way-label" });
    }
    if (box.dataset.route) L.polyline(places.map((place) => place.at), { className: "route", weight: 4, interactive: false }).addTo(map);
    if (places.length) map.fitBounds(L.latLngBounds(places.map((place) => place.at)), { paddingTopLeft: [60, 60], paddingBottomRight: [120, 60], maxZoom: 17 });
    else map.setView([0, 0], 1);
    const seen = new Map(); // places that share a position show all their steps
    for (const place of places) {
      const key = place.at.join();
      if (seen.has(key)) seen.get(key).step += `, ${place.step}`;
      else seen.set(key, { ...place });
    }
    for (const place of seen.values()) {
      const side = (east(place) ? -1 : 1) * (reach(place) + 2);
      const marker = L.marker(place.at, { icon: icon(place), alt: place.name, keyboard: Boolean(place.link), interactive: Boolean(place.link) });
      marker.addTo(map).bindTooltip(place.name, { permanent: places.length <= 30, direction: side < 0 ? "left" : "right", offset: [side, 0] });
      const node = marker.getElement();
      if (place.link) {
        node.setAttribute("aria-label", place.name);
        const go = () => { location.href = place.link; };
        marker.on("click", go);
        marker.on("keydown", (event) => { if (event.originalEvent.key === "Enter") go(); });
      } else {
        node.removeAttribute("tabindex");
        node.removeAttribute("role");
        node.setAttribute("aria-hidden", "true");
      }
    }
  }
}
