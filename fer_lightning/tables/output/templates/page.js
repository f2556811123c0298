"use strict";

// The table is sorted by a column: click or press a heading. What has no number goes last.
const table = document.querySelector("#table table");
const headings = [...table.querySelectorAll("thead tr:last-child th")];

function sort(column, descending) {
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort);
  };
  const rows = [...table.tBodies[0].rows];
  const isText = rows.every((row) => Number.isNaN(key(row)));
  const sign = descending ? -1 : 1;
  rows.sort((a, b) => {
    if (isText) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
    const [left, right] = [key(a), key(b)];
    if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right);
    return sign * (left - right);
  });
  table.tBodies[0].append(...rows);
  headings.forEach((heading) => heading.removeAttribute("aria-sort"));
  headings[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

headings.forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  button.addEventListener("click", () => sort(column, heading.getAttribute("aria-sort") !== "descending"));
  heading.append(button);
});

// The confusion matrix of the chosen row, or its difference from another one.
const choices = document.querySelector(".choice");
if (choices) {
  const matrices = JSON.parse(document.getElementById("confusions").textContent);
  const shown = document.getElementById("confusion-matrix");
  const [row, minus] = ["row", "minus"].map((name) => document.getElementById(`confusion-${name}`));

  const write = (cell, value, isDifference, scale) => {
    const sign = value < 0 ? "−" : isDifference && value > 0 ? "+" : "";
    cell.textContent = value === null ? "–" : sign + Math.abs(value).toFixed(1);
    cell.style.setProperty("--share", value === null ? 0 : Math.abs(value) * scale);
    cell.classList.toggle("more", isDifference && value > 0);
  };
  const draw = () => {
    const one = matrices[row.value];
    const other = matrices[minus.value];
    const values = one.percent.map((line, i) =>
      line.map((value, j) => (value === null || !other ? value : Number((value - other.percent[i][j]).toFixed(1)))),
    );
    const largest = Math.max(...values.flat().map((value) => Math.abs(value ?? 0)));
    const scale = other && largest > 0 ? 100 / Math.max(largest, 10) : 1;
    values.forEach((line, i) =>
      line.forEach((value, j) => write(shown.tBodies[0].rows[i].cells[j + 1], value, Boolean(other), scale)),
    );
    shown.caption.textContent = other
      ? `${one.method} minus ${other.method}, points of each true class`
      : `${one.method}, percent of each true class`;
  };
  row.addEventListener("change", draw);
  minus.addEventListener("change", draw);
  choices.hidden = false;
  draw(); // a page that is gone back to keeps what was chosen
}

// On paper everything is unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
