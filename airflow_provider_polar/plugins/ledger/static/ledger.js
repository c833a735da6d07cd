// The page: fetches what it shows from its own server, and writes nothing.

import { grid, line } from "./grid.js";
import { make, number, plural, counted, stateName, iso, Zone } from "./text.js";

const STATES = ["verified", "exported", "exporting", "changed", "incomplete", "failed", "hole"];
const OPEN = ["hole", "failed", "changed", "incomplete"];
const MOST_OPEN = 30;
const AIRFLOW = "../";

/** Airflow shows the page in a frame that may not lead its window elsewhere; a link in the window itself may. */
const outer = (() => {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
})();

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!outer || !link || event.defaultPrevented) return;
  event.preventDefault();
  const same = outer.document.createElement("a");
  same.href = link.href;
  if (event.ctrlKey || event.metaKey || event.shiftKey) same.target = "_blank";
  same.click();
});

function followTheme() {
  const root = (outer ?? window).document.documentElement;
  const wide = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = outer && ["dark", "light"].find((name) => root.classList.contains(name));
    chosen ??= ["dark", "light"].find((name) => name === localStorage.getItem("theme"));
    document.documentElement.dataset.theme = chosen ?? (wide.matches ? "dark" : "light");
  };
  apply();
  wide.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  if (outer) new outer.MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
}

async function get(path) {
  const query = new URLSearchParams(window.location.search);
  const only = query.get("dag_id") ? `?${new URLSearchParams({ dag_id: query.get("dag_id") })}` : "";
  // Airflow 3.0 keeps the token where its own page reads it from.
  const token = /(?:^|; )_token=([^;]+)/.exec(document.cookie)?.[1];
  const response = await fetch(`api/${path}${only}`, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (response.ok) return response.json();
  throw new Error({
    401: "You are not logged in to Airflow: log in, then reload this page.",
    403: "You may not see this: it needs the right to read DAGs, their runs and their XComs.",
  }[response.status] ?? `Airflow's web server responded with ${response.status}; its log says why. Reload the page to try again.`);
}

/** Windows and tasks as objects, out of the short form that they travel in. */
function unpack(body) {
  const names = Object.keys(body.names);
  const tasks = body.tasks.map(([dag, task, run, map, logical]) => ({ dag: names[dag], task: names[task], run, map, logical }));
  return body.calendars.map((calendar) => {
    const windows = calendar.windows.map(([start, length, state, task, rows, files, manifest]) => ({
      start, end: start + length, state: body.states[state], task: tasks[task] ?? null, rows, files, manifest,
    }));
    return { ...calendar, windows, usual: usual(windows) };
  });
}

function usual(windows) {
  const counts = new Map();
  for (const { start, end } of windows) counts.set(end - start, (counts.get(end - start) ?? 0) + 1);
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0];
}

const address = ({ dag, task, run, map }) =>
  `${AIRFLOW}dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/tasks/${encodeURIComponent(task)}`
  + (map >= 0 ? `/mapped/${map}` : "");

function manifestName(calendar, window) {
  if (window.manifest !== 1) return window.manifest ?? null;
  const [from, to] = [window.start, window.end].map((moment) => iso(moment).replaceAll(/[-:]/g, ""));
  return `events_${from}_${to}${calendar.filters}.manifest.json`;
}

function told(calendar, window) {
  const zone = new Zone(calendar.zone);
  const span = zone.window(window.start, window.end);
  const rows = window.rows === undefined || window.rows === null ? "" : `, ${plural(window.rows, "row")}`;
  return `${span}: ${stateName(window.state)}${rows}`;
}

function cell(calendar, openList) {
  return (window) => {
    const attributes = { class: `cell ${window.state}`, tabindex: -1, "aria-label": told(calendar, window) };
    const element = window.task ? make("a", { ...attributes, href: address(window.task) }) : make("button", { ...attributes, type: "button" });
    if (!window.task && OPEN.includes(window.state)) {
      element.addEventListener("click", () => {
        openList.open = true;
        openList.scrollIntoView({ block: "nearest" });
        openList.querySelector("summary").focus();
      });
    }
    const tell = () => showTip(element, calendar, window);
    element.addEventListener("mouseenter", tell);
    element.addEventListener("focus", tell);
    element.addEventListener("mouseleave", hideTip);
    element.addEventListener("blur", hideTip);
    return element;
  };
}

const tip = document.getElementById("tip");
const hideTip = () => { tip.hidden = true; };
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
document.addEventListener("scroll", hideTip, true);

function showTip(element, calendar, window) {
  const facts = [
    ["State", stateName(window.state)],
    ["Rows", window.rows === undefined || window.rows === null ? null : number(window.rows)],
    ["Files", window.files === undefined || window.files === null ? null : number(window.files)],
    ["Manifest", manifestName(calendar, window)],
    ["Run", window.task && `${window.task.dag}, ${window.task.run}`],
    ["Opens", window.task ? "the log of its run" : window.state === "hole" ? "the command that exports it" : null],
    ["Known", window.task || window.state === "hole" ? null : "from the destination's index: Airflow has forgotten the run"],
  ].filter(([, fact]) => fact !== null);
  const list = make("dl", {}, ...facts.flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, fact)]));
  tip.replaceChildren(make("strong", {}, new Zone(calendar.zone).window(window.start, window.end)), list);
  tip.hidden = false;
  const [cellBox, tipBox] = [element.getBoundingClientRect(), tip.getBoundingClientRect()];
  const below = cellBox.bottom + 6;
  const fits = below + tipBox.height < globalThis.innerHeight;
  tip.style.top = `${fits ? below : Math.max(0, cellBox.top - tipBox.height - 6)}px`;
  tip.style.left = `${Math.max(4, Math.min(cellBox.left, globalThis.innerWidth - tipBox.width - 4))}px`;
}

/** What is open, neighbours of one kind together, the newest first. */
function openSpans(calendar) {
  const spans = [];
  for (const window of calendar.windows) {
    if (!OPEN.includes(window.state)) continue;
    const last = spans.at(-1);
    const alike = last && last.state === window.state && last.end === window.start
      && Boolean(last.last.task) === Boolean(window.task) && last.last.task?.task === window.task?.task;
    if (alike) Object.assign(last, { end: window.end, last: window, count: last.count + 1 });
    else spans.push({ state: window.state, start: window.start, end: window.end, first: window, last: window, count: 1 });
  }
  return spans.reverse();
}

/** The one command that exports a span, or null where none can: its runs have no dates. */
function command(calendar, { first, last }) {
  const { task } = first;
  if (task) {
    const dated = typeof task.logical === "number" && typeof last.task.logical === "number";
    return dated ? `airflow tasks clear --yes --task-regex '^${task.task}$' --start-date ${iso(task.logical)} `
      + `--end-date ${iso(last.task.logical)} ${task.dag}` : null;
  }
  if (calendar.offset === null || !calendar.owner) return null;
  const [from, to] = [first, last].map((window) => iso(window.start + calendar.offset));
  return `airflow backfill create --dag-id ${calendar.owner[0]} --from-date ${from} --to-date ${to}`;
}

function openList(calendar) {
  const spans = openSpans(calendar);
  const zone = new Zone(calendar.zone);
  const items = spans.slice(0, MOST_OPEN).map((span) => {
    const text = `${counted(span.count, span.state)}: ${zone.window(span.start, span.end)}`;
    const line = command(calendar, span);
    const otherwise = span.first.task
      ? make("p", {}, "Its run has no date: ", make("a", { href: address(span.first.task) }, "open it"), " and clear it there.")
      : make("p", {}, "The DAG's runs have no dates: export it by a run with this window as start and end.");
    return make("li", {}, text, line ? copyable(line) : otherwise);
  });
  if (spans.length > MOST_OPEN) items.push(make("li", {}, `and ${number(spans.length - MOST_OPEN)} more, further back`));
  const list = make("ul", { class: "open" }, ...items);
  const element = make("details", { class: "todo" }, make("summary", {}, `To be exported again: ${plural(spans.length, "span")}`), list);
  element.hidden = spans.length === 0;
  element.open = spans.length > 0 && spans.length <= 5;
  return element;
}

function copyable(text) {
  const code = make("code", {}, text);
  const button = make("button", { class: "copy", type: "button", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS browsers give no clipboard.
      globalThis.getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
  return make("div", { class: "command" }, code, button);
}

function section(calendar, body) {
  const zone = new Zone(calendar.zone);
  const counts = STATES.map((state) => [state, calendar.windows.filter((window) => window.state === state).length]);
  const total = calendar.windows.reduce((sum, window) => sum + (window.rows ?? 0), 0);
  const filters = [...calendar.names, ...calendar.filtered_by.map((name) => `by ${name}`)].join(", ") || "all events";
  const late = calendar.after !== null && calendar.after < body.now ? " (late)" : "";
  const due = calendar.due && `Next window: ${zone.window(...calendar.due)}, due ${zone.text(calendar.after)}${calendar.paused ? ", but the DAG is paused" : late}`;
  const source = "From Airflow's metadata database" + (calendar.indexed ? ` and, for ${plural(calendar.indexed, "window")}, the destination's index` : "");
  const facts = [counts.filter(([, count]) => count).map(([state, count]) => counted(count, state)).join(", "),
    plural(total, "row"), due, source].filter(Boolean);
  const todo = openList(calendar);
  return make("section", {},
    make("h2", {}, calendar.destination), make("p", { class: "soft" }, `${filters} · ${calendar.zone}`),
    make("p", { class: "facts" }, ...facts.map((fact) => make("span", {}, fact))),
    line(calendar) ?? "", ...grid(calendar, cell(calendar, todo)), todo);
}

const moment = (seconds) => (seconds === null ? "" : new Zone("UTC").text(Math.floor(seconds)));
const link = ([dag, task, run, map], text) => make("a", { href: address({ dag, task, run, map }) }, text);

function showIngests(ingests) {
  const counts = (one) => [one.events, one.inserted, one.duplicates, one.rejected].map((count) => (count === null ? "" : number(count)));
  list("ingests", ["Run", "When (UTC)", "State", "Rows", "Sent", "Duplicates", "Rejected"], 3, ingests.map((one) =>
    [link(one.task, `${one.task[0]}, ${one.task[2]}`), moment(one.at), one.state ?? "unknown", ...counts(one)]));
}

function showPolls(polls) {
  const next = (one) => (one.next !== null ? moment(one.next) : one.every === null ? "" : `every ${number(one.every)} s, triggerer alive ${moment(one.alive)}`);
  list("polls", ["What", "Events", "State", "Since (UTC)", "Last poll or find (UTC)", "Next poll (UTC)"], 9, polls.map((one) =>
    [one.task ? link(one.task, `${one.task[0]}, ${one.name}`) : one.name, one.names.join(", "), one.state, moment(one.since), moment(one.last), next(one)]));
}

/** A table in its section; columns from `numbers` on are numbers. */
function list(id, heads, numbers, lines) {
  if (!lines.length) return;
  const kind = (column) => ({ class: column >= numbers && "number" });
  const head = make("tr", {}, ...heads.map((name, column) => make("th", { scope: "col", ...kind(column) }, name)));
  const rows = lines.map((cells) => make("tr", {}, ...cells.map((content, column) => make("td", kind(column), content))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  const element = document.getElementById(id);
  element.append(make("div", { class: "wide", tabindex: 0, role: "region", "aria-labelledby": `${id}-title` }, table));
  element.hidden = false;
}

async function show() {
  followTheme();
  document.getElementById("legend").append(
    ...STATES.map((state) => make("li", {}, make("span", { class: `cell ${state}`, "aria-hidden": "true" }), ` ${stateName(state)}`)));
  const status = document.getElementById("status");
  try {
    const [body, { ingests }, waits, watchers] = await Promise.all([
      get("exports"), get("ingests"), get("waits"), get("watchers").catch(() => ({ polls: [] })), // who may not see assets
    ]);
    const calendars = unpack(body);
    document.getElementById("calendars").append(...calendars.map((calendar) => section(calendar, body)));
    showIngests(ingests);
    showPolls([...waits.polls, ...watchers.polls]);
    const limit = body.most ? `Only the newest ${number(body.most)} exports are shown.` : "";
    status.textContent = calendars.length ? limit : "No export that you may see has run yet. Windows show up here as soon as one begins.";
  } catch (error) {
    status.textContent = error.message;
  }
  document.documentElement.dataset.ready = "true";
}

show();
