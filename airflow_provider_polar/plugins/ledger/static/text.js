// Times, numbers and elements: what every part of the page is made of.

const SVG = "http://www.w3.org/2000/svg";
const PLURALS = { verified: "verified", exported: "exported", exporting: "being exported", changed: "changed since",
  incomplete: "incomplete", failed: "failed", hole: "hole" };

/** An element; children are elements or text, never markup. */
export function make(tag, attributes = {}, ...children) {
  const drawn = ["svg", "polyline", "title"].includes(tag);
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

export const number = (value) => value.toLocaleString("en-US");
export const plural = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
export const stateName = (state) => PLURALS[state];
export const counted = (count, state) => state === "hole" ? plural(count, "hole") : `${number(count)} ${PLURALS[state]}`;

/** ISO 8601 in UTC without a fraction that is zero: what commands and manifests want. */
export const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

/** What clocks of a zone say, as seconds that UTC would show alike. */
export class Zone {
  constructor(name) {
    this.name = name;
    this.offsets = new Map();
    try {
      this.format = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" });
    } catch {
      this.name = "UTC"; // a zone that this browser does not know
    }
  }

  offset(seconds) {
    if (this.name === "UTC") return 0;
    const hour = Math.floor(seconds / 900);
    if (!this.offsets.has(hour)) {
      const text = this.format.formatToParts(hour * 900_000).find((part) => part.type === "timeZoneName").value;
      const [, sign, hours, minutes] = /GMT(?:([+-])(\d+):(\d+))?/.exec(text);
      this.offsets.set(hour, sign ? (sign === "-" ? -1 : 1) * (hours * 3600 + minutes * 60) : 0);
    }
    return this.offsets.get(hour);
  }

  clock(seconds) {
    return seconds + this.offset(seconds);
  }

  moment(clock) {
    return clock - this.offset(clock - this.offset(clock));
  }

  /** A moment as people write it. */
  text(seconds) {
    return iso(this.clock(seconds)).replace("T", " ").replace(/(:00)?(\.\d+)?Z$/, "$2");
  }

  window(start, end) {
    const [from, to] = [this.text(start), this.text(end)];
    return `${from} to ${to.startsWith(from.slice(0, 11)) ? to.slice(11) : to} ${this.name}`;
  }
}
