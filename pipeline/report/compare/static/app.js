"use strict";
/* The page's state and what the controls do. Charts and tables are drawn from it, always whole. */

const state = {
  data: JSON.parse(byId("data").textContent),
  columns: [], hidden: new Set(), known: new Set(), picked: new Set(),
  sort: { id: "best", down: true }, search: "", lrChosen: false,
};

function remembered(key) { try { return localStorage.getItem(`pcan.${key}`); } catch { return null; } }
function remember(key, value) { try { localStorage.setItem(`pcan.${key}`, value); } catch { /* a file may not store */ } }

function best(count) {
  return [...state.data.trials].filter((t) => bestTop1(t) !== null).sort((a, b) => Boolean(a.apart) - Boolean(b.apart) || bestTop1(b) - bestTop1(a)).slice(0, count);
}

/* At first: each variant's own recipe (what the ladder tried), else the best five. */
function firstPicks() {
  const recipes = state.data.trials.filter((t) => t.recipe && t.epochs.length).slice(0, 6);
  return (recipes.length ? [...recipes, ...best(2)] : best(5)).map((t) => t.id);
}

function picked() { return state.data.trials.filter((t) => state.picked.has(t.id)); }

function announce(words) { byId("news").textContent = words; }

function pick(id) {
  state.picked.has(id) ? state.picked.delete(id) : state.picked.add(id);
  announce(`${state.picked.size} ${say("runs picked")}`);
  writeFragment();
  render();
  const box = [...document.querySelectorAll("[data-pick]")].find((b) => b.dataset.pick === id);
  if (box && document.activeElement === document.body) box.focus();
}

function sortBy(id) {
  const column = state.columns.find((c) => c.id === id);
  state.sort = { id, down: state.sort.id === id ? !state.sort.down : Boolean(column.n) };
  renderTable();
  document.querySelector(`[data-sort="${CSS.escape(id)}"]`)?.focus();
}

function standing() {
  const { data } = state, won = data.best && data.trials.find((t) => t.id === data.best.trial), top = won || best(1)[0];
  const counts = {};
  for (const t of data.trials) counts[say(stateOf(t))] = (counts[say(stateOf(t))] || 0) + 1;
  const trials = counted(data.trials.length, "trial");
  const parts = Object.entries(counts).map(([name, n]) => `${n} ${name}`);
  const so = top ? ` ${won ? "Best so far" : "No trial is complete; highest so far"}: ${top.id} with ${percent(bestTop1(top))} at epoch ${at(top, "epochs")}` : " Nothing is measured yet";
  const missing = top && data.goal ? data.goal - bestTop1(top) : null;
  const goal = data.goal ? (missing === null ? `; the goal is ${percent(data.goal)}.` : missing <= 0 ? `; the goal of ${percent(data.goal)} is reached.` : `; ${(100 * missing).toFixed(2)} points below the goal of ${percent(data.goal)}.`) : ".";
  const apart = data.not_comparable ? ` ${data.not_comparable}` : "";
  return `${trials}${parts.length ? ` (${parts.join(", ")})` : ""}.${so}${goal}${apart}`;
}

/* Returns a sentence on runs that did not train at the rate their schedule gives. */
function lrNote(trials) {
  const off = [];
  for (const t of trials) {
    const course = (state.data.variants.find((v) => v.name === t.variant) || {}).lr;
    if (!course || !t.recipe) continue; // a searched trial has a schedule of its own
    const wrong = t.epochs.filter((e, i) => e > 0 && course[e - 1] && t.lr[i] !== null && Math.abs(t.lr[i] / course[e - 1] - 1) > 0.01);
    if (wrong.length) off.push(`${t.id} from epoch ${wrong[0]}`);
  }
  const key = "Broad line: what the schedule gives. Line with symbols: logged. Diamonds: the plan's table, rounded by hand.";
  return off.length ? `${key} Logged and true rate differ in ${off.join(", ")}.` : key;
}

function renderPicks(trials) {
  const chips = trials.map((t) => el("button", { type: "button", class: "pick", "aria-label": `Remove ${t.id}`, title: "Remove from the charts", onclick: () => pick(t.id) }, swatch(look(state.data, t)), `${t.id} ${percent(bestTop1(t))}`, el("span", { "aria-hidden": "true" }, "×")));
  byId("picks").replaceChildren(...(chips.length ? chips : [el("span", { class: "note" }, say("No run is picked; tick some in the table below."))]));
}

function renderTable() {
  const column = state.columns.find((c) => c.id === state.sort.id) || state.columns[0];
  const rows = sorted(state.data.trials.filter((t) => matches(t, state.search)), column, state.sort.down);
  trialsTable(state, rows, { sort: sortBy, pick });
  byId("count").textContent = say(rows.length === state.data.trials.length ? counted(rows.length, "trial") : `${rows.length} of ${state.data.trials.length} trials match`);
}

function renderCharts() {
  const chosen = picked(), { data } = state;
  const others = data.trials.filter((t) => !state.picked.has(t.id));
  const left = (words) => { byId("labels-note").textContent = words.length ? `${say("No room for the labels of")}: ${words.join(", ")}.` : ""; };
  const options = { range: byId("range").value, plan: byId("show-plan").checked, others: byId("show-others").checked, left };
  left([]);
  if (!state.lrChosen) byId("lr-log").checked = spansWide(chosen);
  drawTop1(data, chosen, others, options);
  drawBranch(data, chosen, "rgb");
  drawBranch(data, chosen, "pose");
  drawLr(data, chosen, byId("lr-log").checked);
  drawParallel(data, chosen);
  drawRatios(data, chosen);
  byId("lr-note").textContent = say(lrNote(chosen));
}

function render() {
  const chosen = picked();
  byId("name").textContent = state.data.sweep;
  byId("standing").textContent = say(standing());
  byId("foot").textContent = say(`Made ${state.data.made.replace("T", " ").replace("+00:00", " UTC")} by pcan sweep compare. Metric: ${text(state.data.metric)}.`);
  drawLadder(state.data);
  renderPicks(chosen);
  renderTable();
  renderCharts();
  byId("numbers").replaceChildren(numbersTable(chosen));
  byId("diff").replaceChildren(diffTable(chosen, byId("diff-all").checked));
  byId("real").replaceChildren(realTable(chosen, state.data));
  byId("new-clips").textContent = say((state.data.on_new_clips || {}).sentence || "");
  const seeds = seedsTable(state.data);
  byId("seeds").hidden = !seeds;
  byId("seeds").replaceChildren(...(seeds ? [seeds] : []));
  drawImportances(state.data);
  drawClasses(chosen);
  drawVerdicts(state.data.trials.filter((t) => state.picked.has(t.id) || state.data.trials.length <= 12));
}

function renderColumns() {
  state.columns = columnsOf(state.data);
  for (const c of state.columns) {
    if (!state.known.has(c.id) && c.hidden) state.hidden.add(c.id);
    state.known.add(c.id);
  }
  const toggle = (id) => { state.hidden.has(id) ? state.hidden.delete(id) : state.hidden.add(id); renderTable(); };
  byId("columns").replaceChildren(...state.columns.slice(1).map((c) => el("label", { class: "check" }, el("input", { type: "checkbox", "data-column": c.id, checked: !state.hidden.has(c.id), onchange: () => toggle(c.id) }), say(c.name))));
}

const dark = matchMedia("(prefers-color-scheme: dark)");
let theme = remembered("theme") || "auto";

function applyTheme(forced) {
  const shown = forced || (theme === "auto" ? (dark.matches ? "dark" : "light") : theme);
  document.documentElement.dataset.theme = shown;
  byId("theme").textContent = say(`Theme: ${theme}`);
}

function connect() {
  byId("theme").addEventListener("click", () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme];
    remember("theme", theme);
    applyTheme();
    render();
  });
  dark.addEventListener("change", () => { applyTheme(); render(); });
  byId("print").addEventListener("click", () => window.print());
  window.addEventListener("beforeprint", () => { applyTheme("light"); renderPicks(picked()); renderCharts(); DRAWN.forEach((c) => c.resize()); });
  window.addEventListener("afterprint", () => { applyTheme(); renderPicks(picked()); renderCharts(); });
  byId("lr-log").addEventListener("change", () => { state.lrChosen = true; });
  window.addEventListener("hashchange", openFragment);
  for (const id of ["range", "show-plan", "show-others", "lr-log"]) byId(id).addEventListener("change", renderCharts);
  byId("diff-all").addEventListener("change", render);
  byId("search").addEventListener("input", (event) => { state.search = event.target.value.trim(); renderTable(); });
  byId("pick-best").addEventListener("click", () => { state.picked = new Set(best(5).map((t) => t.id)); writeFragment(); render(); });
  byId("pick-none").addEventListener("click", () => { state.picked.clear(); writeFragment(); render(); });
}

/* A tunnel that broke says nothing: a question without an answer is given up after this. */
const PATIENCE_MS = 20000;

/* Say that the page is behind, and since when; an empty text takes it back. */
function stale(problem) {
  const place = byId("stale");
  if (problem && place.hidden) place.dataset.since = new Date().toLocaleTimeString();
  place.hidden = !problem;
  place.textContent = problem ? `${say("No news since")} ${place.dataset.since}: ${problem} ${say("The page goes on asking.")}` : "";
  document.body.dataset.reached = problem ? "no" : "yes";
}

/* With --serve: ask our own server; a sweep that is at rest answers 304 and nothing is drawn. */
async function follow() {
  let tag = null;
  for (;;) {
    try {
      const reply = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (reply.status === 200) {
        tag = reply.headers.get("ETag");
        const known = new Set(state.data.trials.map((t) => t.id));
        const data = await reply.json();
        if (data.schema > state.data.schema) {
          announce("The server now runs a newer pcan; reload this page.");
          return;
        }
        state.data = data;
        for (const t of state.data.trials) if (!known.has(t.id) && t.recipe) state.picked.add(t.id);
        renderColumns();
        render();
      }
      stale(reply.ok || reply.status === 304 ? "" : (await reply.text()).slice(0, 300));
    } catch {
      stale(say("the server does not answer."));
    }
    await new Promise((done) => setTimeout(done, 3000));
  }
}

/* The address names what is shown: #trial=NAME, #pick=NAME&pick=NAME, #view=lr. */
function openFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  const names = [...given.getAll("trial"), ...given.getAll("pick")].filter((name) => state.data.trials.some((t) => t.id === name));
  if (names.length) state.picked = new Set(names);
  if (names.length) render();
  const view = given.get("view") || (given.has("trial") ? "top1" : null);
  const place = view && byId(`h-${view}`);
  if (place) place.scrollIntoView();
}

function writeFragment() {
  const given = new URLSearchParams();
  const chosen = [...state.picked];
  if (chosen.join() !== firstPicks().join()) chosen.forEach((id) => given.append("pick", id));
  const hash = given.toString() ? `#${given}` : location.pathname + location.search;
  try { history.replaceState(null, "", hash); } catch { /* a viewer that forbids it */ }
}

async function start() {
  translatePage();
  document.querySelectorAll("h2[id]").forEach((head) => {
    const name = head.id.slice(2);
    head.append(" ", el("a", { class: "here", href: `#view=${name}`, "aria-label": `${say("Link to")}: ${head.textContent}` }, "#"));
  });
  state.picked = new Set(firstPicks());
  applyTheme();
  renderColumns();
  connect();
  render();
  document.body.dataset.read = "yes";
  try {
    await unpackLibrary();
    renderCharts();
  } catch {
    announce(say("This browser cannot draw the charts; the tables hold the same figures."));
    byId("labels-note").textContent = say("This browser cannot draw the charts; the tables hold the same figures.");
  }
  openFragment();
  document.body.dataset.drawn = "yes";
  if (document.body.dataset.live === "true") follow();
}

start();
