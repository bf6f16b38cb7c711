"use strict";
/* Small helpers: elements without markup strings, numbers as people read them, colours. */

const UNKNOWN = "–";
const STATES = { COMPLETE: "complete", PRUNED: "pruned", FAIL: "failed", RUNNING: "running", WAITING: "waiting" };
const DASHES = ["solid", "dashed", "dotted"];
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "roundRect", "arrow"];

const WORDS = JSON.parse(byId("words").textContent);

/* A text of ours in the page's language; what the table lacks stays English. */
function say(english) {
  if (WORDS.texts[english]) return WORDS.texts[english];
  for (const [pattern, words] of WORDS.patterns) {
    const found = new RegExp(`^${pattern}$`).exec(english);
    if (found) return words.replace(/\$(\d)/g, (_, i) => found[i] ?? "");
  }
  return english;
}

/* A sentence in parts where the table lacks it as a whole: as words.say in Python has it. */
function sayAll(english) {
  const whole = say(english), parts = english.split("; "), remark = /^(.+) \(([^()]+)\)$/.exec(english);
  if (whole !== english || !Object.keys(WORDS.texts).length) return whole;
  if (parts.length > 1) return parts.map(sayAll).join("；");
  return remark ? `${sayAll(remark[1])}（${sayAll(remark[2])}）` : english;
}

/* The fixed texts of the page itself. */
function translatePage() {
  if (!Object.keys(WORDS.texts).length) return;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const words = node.data.trim();
    if (words && !["SCRIPT", "CODE"].includes(node.parentElement.tagName)) node.data = node.data.replace(words, say(words));
  }
  for (const one of document.querySelectorAll("[aria-label]")) one.setAttribute("aria-label", say(one.getAttribute("aria-label")));
}

/* el("td", { class: "n" }, "text", child): text is only ever set as text. */
function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "checked") made.checked = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function counted(count, noun) { return `${count} ${noun}${count === 1 ? "" : "s"}`; }

function byId(id) { return document.getElementById(id); }

function percent(value, digits = 2) {
  return value === null || value === undefined ? UNKNOWN : `${(100 * value).toFixed(digits)} %`;
}

function number(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value !== "number") return text(value);
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return Number(value.toPrecision(4)).toExponential().replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

function text(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

function bestOf(trial) {
  let best = null;
  trial.top1.forEach((value, i) => {
    if (value !== null && trial.epochs[i] > 0 && (best === null || value > trial.top1[best])) best = i;
  });
  return best;
}

function bestTop1(trial) {
  const at = bestOf(trial);
  return at === null ? null : trial.top1[at];
}

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/* How a trial is drawn: colour and symbol by variant, dash by number, never colour alone. */
function look(data, trial) {
  const index = Math.max(0, data.variants.findIndex((variant) => variant.name === trial.variant));
  return {
    color: css(`--c${index % 8}`),
    dash: DASHES[Number(trial.number) % 3] || DASHES[0],
    symbol: SYMBOLS[index % SYMBOLS.length],
  };
}

function swatch(style) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 26 10");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(ns, "line");
  const dash = { solid: "none", dashed: "6 3", dotted: "2 3" }[style.dash];
  const given = { x1: 0, x2: 26, y1: 5, y2: 5, stroke: style.color, "stroke-width": 3, "stroke-dasharray": dash };
  for (const [key, value] of Object.entries(given)) line.setAttribute(key, value);
  svg.append(line);
  return svg;
}

/* Keys by their last telling part: "optim_wrapper.optimizer.lr" -> "lr", unless two would agree. */
function shortNames(paths) {
  const short = (path, parts) => path.split(".").slice(-parts).join(".");
  const names = {};
  for (const path of paths) {
    let parts = /^\d+$/.test(short(path, 1)) ? 2 : 1;
    while (paths.some((other) => other !== path && short(other, parts) === short(path, parts)) && parts < 9) parts += 1;
    names[path] = short(path, parts);
  }
  return names;
}
