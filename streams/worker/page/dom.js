// What the page is put together with.

export const at = (id) => document.getElementById(id);
export const say = (id, text) => { const node = at(id); if (node.textContent !== text) node.textContent = text; };
export const number = (value) => value === null || value === undefined ? "-" : Number(value).toLocaleString("en");
export const short = (value, digits = 3) => value === null || value === undefined ? "-" : Number(value).toPrecision(digits);
export const sum = (values) => values.reduce((total, one) => total + one, 0);

/** Returns a duration of so many seconds in its largest unit. */
export function age(seconds) {
  if (seconds < 120) return `${Math.max(0, seconds).toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export function make(tag, text, name) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
}

export function link(text, href) {
  const node = make("a", text);
  node.href = href;
  return node;
}

/** Fills a table's body with rows of texts and nodes; one that says the same already is left, and so the focus in it. */
export function fill(id, rows, nothing) {
  const body = at(id), heads = [...body.closest("table").querySelectorAll("th")];
  const made = (rows.length ? rows : [[nothing]]).map((cells) => {
    const row = make("tr");
    cells.forEach((content, place) => {
      const cell = make("td");
      cell.append(content);
      if (rows.length) cell.dataset.label = heads[place].textContent;
      row.append(cell);
    });
    if (!rows.length) row.firstChild.colSpan = heads.length;
    return row;
  });
  const old = [...body.children];
  made.forEach((row, place) => {
    if (!old[place]) body.append(row);
    else if (old[place].textContent !== row.textContent) old[place].replaceWith(row);
  });
  old.slice(made.length).forEach((row) => row.remove());
}
