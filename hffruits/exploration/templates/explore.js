"use strict";
// The map: every photo a dot on a canvas. Drag, pinch, zoom, hover, tap, or walk it with the keys.
// Runs after page.js, whose all() it uses.

const data = JSON.parse(document.getElementById("map-data").textContent);
const canvas = document.querySelector("#map canvas");
const pen = canvas.getContext("2d");
const tip = document.querySelector("#map .tip");
const tile = tip.querySelector(".tile");
const labelErrors = new Set(data.label_errors);
const dark = matchMedia("(prefers-color-scheme: dark)");
const sheet = new Image();
sheet.src = data.sprite;
tile.style.backgroundImage = `url(${data.sprite})`;

const EDGE = 24; // pixels that stay free around the dots
const NEAR = 22; // pixels from a dot that still mean it
const view = { x: 0.5, y: 0.5, scale: 1 }; // the middle, in the map's own units
let width = 0, height = 0; // CSS pixels
let active = -1; // the photo in the tooltip
let frame = 0;

const choice = (id) => document.getElementById(id);
const pick = { name: choice("map-class"), split: choice("map-split"),
  labelErrors: choice("map-label-errors"), photos: choice("map-photos") };

function isPicked(index) {
  const [, , name, split] = data.points[index];
  return (pick.name.value === "" || name === +pick.name.value)
    && (pick.split.value === "" || split === +pick.split.value)
    && (!pick.labelErrors.checked || labelErrors.has(index));
}

// Hues a golden angle apart: neighbours in the list of classes never have similar ones
function colour(name) {
  const light = (dark.matches ? 74 : 60) + 9 * ((name % 3) - 1);
  return `oklch(${light}% 0.15 ${(40 + name * 137.508) % 360})`;
}

const pace = () => [(width - 2 * EDGE) * view.scale, (height - 2 * EDGE) * view.scale];

function place(index) {
  const [x, y] = data.points[index], [across, down] = pace();
  return [width / 2 + (x - view.x) * across, height / 2 + (y - view.y) * down];
}

function draw() {
  frame = 0;
  const ratio = devicePixelRatio, style = getComputedStyle(canvas);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const picked = data.points.map((_, index) => isPicked(index));
  const radius = Math.min(9, 3.5 * Math.sqrt(view.scale));
  for (const lit of [false, true]) { // the chosen ones on top
    for (const [index, point] of data.points.entries()) {
      const [x, y] = place(index);
      if (picked[index] !== lit || x < -40 || y < -40 || x > width + 40 || y > height + 40) continue;
      pen.globalAlpha = lit ? 0.85 : 0.12;
      pen.fillStyle = lit ? colour(point[2]) : style.color;
      if (lit && pick.photos.checked) {
        drawPhoto(index, x, y);
        continue;
      }
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
    }
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = style.color;
  pen.lineWidth = 1.5;
  for (const index of data.label_errors) if (picked[index]) ring(index, radius + 3.5);
  pen.strokeStyle = style.accentColor;
  pen.lineWidth = 3;
  if (active >= 0) ring(active, radius + 6);
}

function drawPhoto(index, x, y) {
  const side = Math.min(1.5 * data.tile, 20 * Math.sqrt(view.scale));
  pen.globalAlpha = 1;
  pen.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4); // the colour as a frame
  const column = index % data.columns, row = Math.floor(index / data.columns);
  pen.drawImage(sheet, column * data.tile, row * data.tile, data.tile, data.tile,
    x - side / 2, y - side / 2, side, side);
}

function ring(index, radius) {
  pen.beginPath();
  pen.arc(...place(index), radius, 0, 2 * Math.PI);
  pen.stroke();
}

const redraw = () => (frame ||= requestAnimationFrame(draw));

// ---- The legend

function paintLegend() {
  for (const [name, item] of all(".map-legend .key").entries()) item.style.setProperty("--fill", colour(name));
}

paintLegend();
dark.addEventListener("change", paintLegend);

// ---- The tooltip

function show(index) {
  if (index !== active) redraw();
  active = index;
  tip.hidden = index < 0;
  if (index < 0) return;
  const [, , name, split] = data.points[index];
  const side = tile.clientWidth;
  const column = index % data.columns, row = Math.floor(index / data.columns);
  tile.style.backgroundSize = `${data.columns * side}px auto`;
  tile.style.backgroundPosition = `${-column * side}px ${-row * side}px`;
  tip.querySelector("b").textContent = data.classes[name];
  tip.querySelector(".label-error").hidden = !labelErrors.has(index);
  tip.querySelector(".where").textContent = data.splits[split];
  tip.querySelector(".path").textContent = data.paths[index];
  const [x, y] = place(index), room = 14;
  const left = x + room + tip.offsetWidth < width ? x + room : x - room - tip.offsetWidth;
  const top = Math.min(y + room, height - tip.offsetHeight - 4);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

function nearest(x, y, distance = NEAR) {
  let best = -1;
  for (const index of data.points.keys()) {
    const [px, py] = place(index), away = Math.hypot(px - x, py - y);
    if (away < distance && isPicked(index)) [best, distance] = [index, away];
  }
  return best;
}

// ---- Moving and zooming

function move(dx, dy) {
  const [across, down] = pace(), half = 0.5 / view.scale;
  view.x = Math.min(1 - half, Math.max(half, view.x - dx / across));
  view.y = Math.min(1 - half, Math.max(half, view.y - dy / down));
  redraw();
}

function zoom(factor, x = width / 2, y = height / 2) { // (x, y) stays where it is
  const before = pace();
  view.scale = factor ? Math.min(40, Math.max(1, view.scale * factor)) : 1;
  const after = pace();
  view.x += (x - width / 2) * (1 / before[0] - 1 / after[0]);
  view.y += (y - height / 2) * (1 / before[1] - 1 / after[1]);
  move(0, 0);
  show(active);
}

const fingers = new Map(); // pointer id -> where it is
let travelled = 0;

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
  travelled = 0;
});

canvas.addEventListener("pointermove", (event) => {
  const here = [event.offsetX, event.offsetY], before = fingers.get(event.pointerId);
  if (!before) return show(nearest(...here));
  const [dx, dy] = [here[0] - before[0], here[1] - before[1]];
  travelled += Math.hypot(dx, dy);
  fingers.set(event.pointerId, here);
  if (fingers.size === 2) {
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    const gap = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
    move(dx / 2, dy / 2);
    zoom(gap(here) / gap(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
  } else if (event.pointerType !== "touch") { // one finger scrolls the page
    move(dx, dy);
    if (travelled > 4) show(-1);
  }
});

for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    fingers.delete(event.pointerId);
    if (name === "pointerup" && travelled < 5) show(nearest(event.offsetX, event.offsetY));
  });
}
canvas.addEventListener("pointerleave", (event) => {
  if (event.pointerType === "mouse") show(-1); // a finger always leaves after a tap
});
canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 200), event.offsetX, event.offsetY);
}, { passive: false });
for (const button of all("[data-zoom]")) {
  button.addEventListener("click", () => zoom(+button.dataset.zoom));
}

// ---- The keyboard: an arrow goes to the next photo that way, sideways steps count double

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ZOOMS = { "+": 2, "=": 2, "-": 0.5, "0": 0 };

function step([dx, dy]) {
  const [x, y] = place(active);
  let best = active, cost = Infinity;
  for (const index of data.points.keys()) {
    const [px, py] = place(index), along = (px - x) * dx + (py - y) * dy;
    const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
    if (along > 0.5 && along + 2 * aside < cost && isPicked(index)) {
      [best, cost] = [index, along + 2 * aside];
    }
  }
  const [bx, by] = place(best);
  move(Math.max(0, EDGE - bx) + Math.min(0, width - EDGE - bx),
    Math.max(0, EDGE - by) + Math.min(0, height - EDGE - by));
  show(best);
}

const start = () => show(active >= 0 ? active : nearest(width / 2, height / 2, Infinity));
canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && start());
canvas.addEventListener("blur", () => show(-1));
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in ARROWS) active < 0 ? start() : step(ARROWS[event.key]);
  else if (event.key in ZOOMS) zoom(ZOOMS[event.key]);
  else if (event.key === "Escape") show(-1);
  else return;
  event.preventDefault();
});

function pickAgain() {
  const shown = data.points.filter((_, index) => isPicked(index)).length;
  choice("map-count").value = shown === data.points.length ? "" : `${shown.toLocaleString("en")} chosen`;
  show(-1);
  redraw();
}
for (const control of Object.values(pick)) control.addEventListener("change", pickAgain);

new ResizeObserver(() => {
  [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [width * devicePixelRatio, height * devicePixelRatio];
  show(-1);
  draw();
}).observe(canvas);
dark.addEventListener("change", redraw);
sheet.addEventListener("load", redraw);
pickAgain();
