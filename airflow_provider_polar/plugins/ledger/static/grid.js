// A calendar: rows of an hour, a day, a month or a year, and the windows in them by their time.

import { make, counted, plural, Zone } from "./text.js";

const DAY = 86400;
const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
  "November", "December"];
const date = (clock) => new Date(clock * 1000);
const utc = (...parts) => Date.UTC(...parts) / 1000;
const startOfDay = (clock) => Math.floor(clock / DAY) * DAY;
const startOfMonth = (clock, more = 0) => utc(date(clock).getUTCFullYear(), date(clock).getUTCMonth() + more);
const startOfYear = (clock, more = 0) => utc(date(clock).getUTCFullYear() + more, 0);
const dayText = (clock) => date(clock).toISOString().slice(0, 10);
const monthText = (clock) => `${MONTHS[date(clock).getUTCMonth()]} ${date(clock).getUTCFullYear()}`;
const yearText = (clock) => `${date(clock).getUTCFullYear()}`;

/** What a row is, how wide it is at least, and what rows are folded into; all on the clocks of the zone. */
const ROWS = {
  hour: { start: (t) => Math.floor(t / 3600) * 3600, end: (t) => Math.floor(t / 3600 + 1) * 3600, width: 3600,
    name: (t) => date(t).toISOString().slice(11, 16), group: startOfDay, groupName: dayText },
  day: { start: startOfDay, end: (t) => startOfDay(t) + DAY, width: 0,
    name: (t) => `${"SMTWTFS"[date(t).getUTCDay()]} ${dayText(t).slice(8)}`, group: startOfMonth, groupName: monthText },
  month: { start: startOfMonth, end: (t) => startOfMonth(t, 1), width: 31 * DAY,
    name: (t) => MONTHS[date(t).getUTCMonth()].slice(0, 3), group: startOfYear, groupName: yearText },
  year: { start: startOfYear, end: (t) => startOfYear(t, 1), width: 366 * DAY,
    name: yearText, group: () => 0, groupName: () => "All years" },
};

export function kindOfRow(length) {
  return length <= 300 ? "hour" : length < DAY ? "day" : length <= 7 * DAY ? "month" : "year";
}

/** The folded parts of a calendar, the newest open. `cell` makes the element of a window. */
export function grid(calendar, cell) {
  const zone = new Zone(calendar.zone);
  const rows = ROWS[kindOfRow(calendar.usual)];
  const groups = new Map();
  for (const window of calendar.windows) {
    for (const part of parts(window, rows, zone)) {
      const key = rows.group(part.row);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(part);
    }
  }
  const newestFirst = [...groups.keys()].sort((a, b) => b - a);
  return newestFirst.map((key, index) => folded(rows.groupName(key), groups.get(key), rows, cell, index === 0));
}

/** A window once for each row that it reaches into. */
function parts(window, rows, zone) {
  const found = [];
  for (let start = window.start; start < window.end && found.length < 400;) {
    const row = rows.start(zone.clock(start));
    const [from, to] = [zone.moment(row), zone.moment(rows.end(row))];
    const end = Math.max(Math.min(window.end, to), start + 1e-6);
    const width = Math.max(to - from, rows.width);
    found.push({ window, row, first: start === window.start, left: (start - from) / width, width: (end - start) / width });
    start = end;
  }
  return found;
}

function folded(name, parts, rows, cell, open) {
  const counts = new Map();
  for (const { window, first } of parts) if (first) counts.set(window.state, (counts.get(window.state) ?? 0) + 1);
  const told = [...counts].map(([state, count]) => counted(count, state)).join(", ");
  const details = make("details", {}, make("summary", {}, name, " ", make("span", {}, told)));
  const fill = () => {
    if (!details.querySelector("[role=grid]")) details.append(table(name, parts, rows, cell));
  };
  details.addEventListener("toggle", fill);
  if (open) {
    fill();
    details.open = true;
  }
  return details;
}

function table(name, parts, rows, cell) {
  const lines = new Map();
  for (const part of parts) {
    if (!lines.has(part.row)) lines.set(part.row, []);
    lines.get(part.row).push(part);
  }
  const made = [...lines.keys()].sort((a, b) => a - b).map((row) => {
    const track = make("div", { class: "track", role: "none" });
    for (const part of lines.get(row)) {
      const around = make("div", { role: "gridcell" }, cell(part.window));
      around.style.left = `${part.left * 100}%`;
      around.style.width = `${part.width * 100}%`;
      track.append(around);
    }
    return make("div", { class: "row", role: "row" }, make("div", { role: "rowheader" }, rows.name(row)), track);
  });
  const element = make("div", { role: "grid", "aria-label": `${name}: ${plural(parts.length, "window")}` }, ...made);
  element.querySelector(".cell").tabIndex = 0;
  element.addEventListener("keydown", move);
  return element;
}

/** Arrow keys go from window to window; the tab key enters and leaves the grid. */
function move(event) {
  const rows = [...event.currentTarget.children].map((row) => [...row.querySelectorAll(".cell")]);
  const row = rows.findIndex((cells) => cells.includes(event.target));
  const column = rows[row]?.indexOf(event.target);
  const all = rows.flat();
  const at = all.indexOf(event.target);
  const [above, below] = [rows[row - 1], rows[row + 1]].map((cells) => cells && nearest(cells, event.target));
  const to = { ArrowLeft: all[at - 1], ArrowRight: all[at + 1], ArrowUp: above, ArrowDown: below,
    Home: rows[row]?.[0], End: rows[row]?.at(-1) }[event.key];
  if (!to || column < 0) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

function nearest(cells, from) {
  const middle = (cell) => cell.getBoundingClientRect().left + cell.getBoundingClientRect().width / 2;
  const here = middle(from);
  return cells.reduce((best, cell) => Math.abs(middle(cell) - here) < Math.abs(middle(best) - here) ? cell : best);
}

/** Rows a day (or a row of the calendar, where that is longer) as a line. */
export function line(calendar) {
  const zone = new Zone(calendar.zone);
  const rows = ROWS[kindOfRow(calendar.usual) === "hour" ? "day" : kindOfRow(calendar.usual)];
  const totals = new Map();
  for (const { start, rows: count } of calendar.windows) {
    const row = rows.start(zone.clock(start));
    totals.set(row, (totals.get(row) ?? 0) + (count ?? 0));
  }
  if (totals.size < 2) return null;
  const values = [...totals].sort(([a], [b]) => a - b).map(([, total]) => total);
  const most = Math.max(...values, 1);
  const points = values.map((value, n) => `${(n / (values.length - 1)) * 1000},${34 - (value / most) * 32}`).join(" ");
  const each = rows === ROWS.day ? "day" : rows === ROWS.month ? "month" : "year";
  const told = `Rows a ${each}: ${Math.min(...values).toLocaleString("en-US")} to ${most.toLocaleString("en-US")}, `
    + `last ${values.at(-1).toLocaleString("en-US")}`;
  return make("svg", { class: "line", viewBox: "0 0 1000 36", preserveAspectRatio: "none", role: "img", "aria-label": told },
    make("title", {}, told), make("polyline", { points }));
}
