"use strict";
// Confusion: hover, tap or walk the matrix with the keys. Photos: heatmaps.
// Runs after page.js, whose all() it uses.

const { order: names, cells } = JSON.parse(document.getElementById("confusion-data").textContent);
const sheet = document.querySelector(".sheet");
const pane = document.querySelector(".window");
const picker = document.getElementById("confusion-class");
const marks = { row: sheet.querySelector(".row"), column: sheet.querySelector(".column"),
  cell: sheet.querySelector(".cell") };

const LISTED = 5; // classes in a list beside the matrix
const CLEAR = 400; // classes beyond which an image that fits has less than a pixel or two for each

const byRow = names.map(() => []), byColumn = names.map(() => []);
for (const cell of cells) {
  byRow[cell[0]].push(cell);
  byColumn[cell[1]].push(cell);
}
const total = (group) => group.reduce((sum, cell) => sum + cell[2], 0);
const frequent = (group) => group.filter(([row, column]) => row !== column)
  .sort((a, b) => b[2] - a[2]);
const mistakes = frequent(cells);
const say = (count) => count.toLocaleString("en");

let at = [0, 0]; // row and column
let turn = 0; // in the list of mistakes
let scale = 1;

function show(row, column) {
  at = [row, column];
  const side = 100 / names.length;
  marks.row.style.cssText = `top:${row * side}%;height:${side}%`;
  marks.column.style.cssText = `left:${column * side}%;width:${side}%`;
  marks.cell.style.cssText = `${marks.row.style.cssText};${marks.column.style.cssText}`;
  const own = total(byRow[row]);
  const count = byRow[row].find((cell) => cell[1] === column)?.[2] ?? 0;
  const sentence = document.getElementById("confusion-cell");
  sentence.className = row === column ? "right" : "wrong";
  sentence.textContent = row === column
    ? `${names[row]} recognised: ${say(count)} of ${say(own)}`
    : `${names[row]} predicted as ${names[column]}: ${say(count)} of ${say(own)}`;
  picker.value = row;
  list(0, `${names[row]} was predicted as`, frequent(byRow[row]), 1, own);
  const predicted = total(byColumn[column]);
  list(1, `Predicted as ${names[column]} were`, frequent(byColumn[column]), 0, predicted);
}

function list(index, title, group, side, whole) {
  const box = all(".reading > div")[index];
  box.querySelector("h4").textContent = group.length ? title : `${title} none`;
  box.querySelector("table").replaceChildren(...group.slice(0, LISTED).map((cell) => {
    const line = document.createElement("tr");
    const name = document.createElement("th"), track = document.createElement("td");
    const value = document.createElement("td"), bar = document.createElement("i");
    name.scope = "row";
    name.textContent = names[cell[side]];
    track.className = "track";
    track.append(document.createElement("span"));
    track.firstChild.className = "bar";
    track.firstChild.append(bar);
    bar.className = "s0";
    bar.style.width = `${100 * cell[2] / whole}%`;
    value.textContent = say(cell[2]);
    line.append(name, track, value);
    return line;
  }));
}

const limit = (index) => Math.max(0, Math.min(names.length - 1, index));

function point(event) {
  const box = sheet.getBoundingClientRect();
  const index = (part) => limit(Math.floor(part * names.length));
  const [row, column] = [(event.clientY - box.top) / box.height,
    (event.clientX - box.left) / box.width];
  show(index(row), index(column));
}

function reveal() { // in a matrix larger than its window
  const side = sheet.clientWidth / names.length;
  const hold = (now, room, place) =>
    place < now || place + side > now + room ? place - room / 2 : now;
  pane.scrollTo(hold(pane.scrollLeft, pane.clientWidth, at[1] * side),
    hold(pane.scrollTop, pane.clientHeight, at[0] * side));
}

function magnify(factor) {
  scale = Math.max(1, Math.min(16, scale * factor));
  sheet.style.width = `${100 * scale}%`;
  sheet.classList.toggle("smooth", names.length > CLEAR * scale);
  reveal();
}

sheet.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event));
sheet.addEventListener("click", point);
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
sheet.addEventListener("keydown", (event) => {
  const step = ARROWS[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  show(limit(at[0] + step[0]), limit(at[1] + step[1]));
  reveal();
});
picker.addEventListener("change", () => {
  const worst = frequent(byRow[picker.value])[0];
  show(+picker.value, worst ? worst[1] : +picker.value);
  reveal();
});
for (const button of all("[data-mistake]")) {
  button.disabled = mistakes.length === 0;
  button.addEventListener("click", () => {
    turn = (turn + +button.dataset.mistake + mistakes.length) % mistakes.length;
    show(mistakes[turn][0], mistakes[turn][1]);
    reveal();
  });
}
for (const button of all("[data-magnify]")) {
  button.addEventListener("click", () => magnify(+button.dataset.magnify));
}
show(...(mistakes[0] ?? [0, 0]).slice(0, 2));
magnify(1);

// ---- Heatmaps: of one photo by a click, of all by the switch

const seen = all(".photo:has(.heat)");
for (const photo of seen) {
  photo.addEventListener("click", () => photo.classList.toggle("heated"));
}
document.getElementById("heat")?.addEventListener("change", (event) => {
  for (const photo of seen) photo.classList.toggle("heated", event.target.checked);
});
