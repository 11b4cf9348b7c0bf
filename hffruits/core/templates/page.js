"use strict";
// What every report can do: copy commands, filter and sort rows, open all, mark the section in view.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

for (const box of all(".command")) {
  const code = box.querySelector("code");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch { // no permission: leave it selected, so that the keyboard can copy it
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  box.append(button);
}

// <input data-filters="rows">: shows the rows whose data-name holds the text, accents aside
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
for (const input of all("[data-filters]")) {
  const rows = all(input.dataset.filters).map((row) => [row, plain(row.dataset.name)]);
  const tally = input.parentElement.querySelector("output");
  const everything = tally.value;
  input.addEventListener("input", () => {
    const wanted = plain(input.value.trim());
    for (const [row, name] of rows) row.hidden = !name.includes(wanted);
    const shown = rows.filter(([row]) => !row.hidden).length;
    tally.value = wanted ? `${shown} of ${everything}` : everything;
  });
}

// A button in a column's head sorts by it: names upwards first, numbers downwards first
const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
for (const head of all("thead th:has(button)")) {
  const column = head.cellIndex;
  const read = (row) => row.cells[column].dataset.value // where a cell shows it less exactly
    ?? row.cells[column].textContent.replace(/(\d),(?=\d)/g, "$1");
  const compare = (a, b) => a - b || order.compare(a, b); // NaN unless both are numbers
  const button = head.querySelector("button");
  const [usual, other] = "number" in button.dataset
    ? ["descending", "ascending"] : ["ascending", "descending"];
  button.addEventListener("click", () => {
    const now = head.ariaSort === usual ? other : usual;
    for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
    head.ariaSort = now;
    const body = head.closest("table").tBodies[0];
    const sign = now === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => sign * compare(read(a), read(b))));
  });
}

for (const button of all("[data-toggles]")) {
  button.addEventListener("click", () => {
    const open = button.textContent.startsWith("Open");
    for (const details of all(button.dataset.toggles)) details.open = open;
    button.textContent = open ? "Close all" : "Open all";
  });
}

const links = all("nav a");
const spy = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const link = links.find((one) => one.hash === `#${target.id}`);
    if (!isIntersecting) link.removeAttribute("aria-current");
    else {
      link.setAttribute("aria-current", "true");
      link.closest("ul").scrollLeft = link.offsetLeft - 48; // on a phone the row is wider than it
    }
  }
}, { rootMargin: "-20% 0% -79% 0%" }); // a line near the top: one section crosses it at a time
for (const link of links) spy.observe(document.querySelector(link.hash));
