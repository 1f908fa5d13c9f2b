"use strict";
// The run browser: filter, sort, open. Texts of runs only ever become text nodes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("browser");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const filter = document.getElementById("filter");

  const make = (name, ...children) => {
    const element = document.createElement(name);
    element.append(...children);
    return element;
  };
  const below = (row) => {
    const next = row.nextElementSibling;
    return next && next.classList.contains("run") ? next : null;
  };

  const show = (wanted) => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted(row);
      if (below(row)) below(row).hidden = row.hidden;
      shown += !row.hidden;
    }
    document.getElementById("shown").textContent = `${shown} of ${rows.length}`;
  };

  // Filter: every word must occur in the line or in the folder's name.
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    show((row) => {
      const cells = [...row.cells].map((cell) => cell.textContent);
      const line = [...cells, row.dataset.run].join(" ").toLowerCase();
      return words.every((word) => line.includes(word));
    });
  });
  filter.form.addEventListener("submit", (event) => event.preventDefault());

  // From a line of a table to the runs behind it.
  document.getElementById("tables").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const lines = button.dataset.lines.split(" ");
    filter.value = "";
    show((row) => lines.includes(row.dataset.line));
    document.getElementById("runs").scrollIntoView();
  });

  // Sort: numbers as numbers, what is empty last, equal lines in the order in which they were.
  const heads = [...table.tHead.rows[0].cells];
  const compare = (a, b) =>
    a === "" || b === "" ? 0
      : isNaN(a) || isNaN(b) ? (a < b ? -1 : a > b ? 1 : 0)
      : a - b;
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((each) => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const text = (row) => row.cells[column].textContent;
    rows.sort((one, two) => {
      const a = text(one), b = text(two);
      return (a === "") - (b === "") || (ascending ? compare(a, b) : compare(b, a));
    });
    for (const row of rows) {
      const opened = below(row);
      body.append(row, ...(opened ? [opened] : []));
    }
  }));

  // Open: settings, results, curves and machine below the line.
  const list = (title, values) => {
    const items = Object.entries(values).flatMap(([name, value]) => [make("dt", name), make("dd", value)]);
    return items.length ? [make("section", make("h4", title), make("dl", ...items))] : [];
  };
  const drawn = (name, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };
  const chart = (title, points) => {
    const [left, top, width, height] = [52, 20, 250, 110];
    const ends = (place) => {
      const values = points.map((point) => point[place]);
      const low = Math.min(...values), high = Math.max(...values);
      return [low, high, high - low || 1];
    };
    const [first, last, steps] = ends(0), [low, high, spread] = ends(1);
    const at = ([step, value]) =>
      `${left + (step - first) / steps * width} ${top + height - (value - low) / spread * height}`;
    const image = drawn("svg", { viewBox: "0 0 320 150", role: "img", "aria-label": `${title} by step` });
    image.append(
      drawn("text", { x: left, y: 12 }, title),
      drawn("line", { x1: left, x2: left, y1: top, y2: top + height }),
      drawn("line", { x1: left, x2: left + width, y1: top + height, y2: top + height }),
      drawn("text", { x: left - 4, y: top + 8, "text-anchor": "end" }, high.toPrecision(4)),
      drawn("text", { x: left - 4, y: top + height, "text-anchor": "end" }, low.toPrecision(4)),
      drawn("text", { x: left, y: top + height + 15 }, `step ${Math.round(first)}`),
      drawn("text", { x: left + width, y: top + height + 15, "text-anchor": "end" }, Math.round(last)),
      drawn("path", { d: "M" + points.map(at).join("L") }),
    );
    return image;
  };
  const details = (row) => {
    const run = data.runs[row.dataset.run];
    const inside = make("div", make("code", row.dataset.run));
    inside.className = "inside";
    if (run.reason) inside.append(make("p", `Failed: ${run.reason}`));
    const curves = make("div", ...Object.entries(run.curves).map(([name, points]) => chart(name, points)));
    curves.className = "curves";
    const lists = make(
      "div",
      ...list("Result", run.result),
      ...list("Settings", run.settings),
      ...list("Environment", { ...run.environment, attempts: run.attempts }),
    );
    lists.className = "lists";
    inside.append(curves, lists);
    if (run.packages !== null)
      inside.append(make("details", make("summary", "Packages"), make("p", data.packages[run.packages])));
    const cell = make("td", inside);
    cell.colSpan = heads.length;
    const opened = make("tr", cell);
    opened.className = "run";
    return opened;
  };
  body.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const row = button && button.closest("tr");
    if (!row || !rows.includes(row)) return;
    if (below(row)) below(row).remove();
    else row.after(details(row));
    button.setAttribute("aria-expanded", String(Boolean(below(row))));
  });
})();
