"use strict";
/* The tables and lists: trials, numbers, differences, ladder, verdicts. */

function latestVerdict(trial) { return trial.verdicts[trial.verdicts.length - 1] || null; }

function at(trial, key) {
  const best = bestOf(trial);
  return best === null ? null : trial[key][best];
}

/* Columns: what a trial gives for each, how it is shown, whether it is a number. */
function columnsOf(data) {
  const paths = [...new Set(data.trials.flatMap((t) => Object.keys(t.params)))];
  const names = shortNames(paths);
  const fixed = [
    { id: "trial", name: "Trial", get: (t) => t.id },
    { id: "plan", name: "Plan", get: (t) => t.plan, hidden: !data.trials.some((t) => t.plan) },
    { id: "kind", name: "Kind", get: kindOf, hidden: !data.trials.some((t) => t.imported || t.confirms) },
    { id: "state", name: "State", get: (t) => stateOf(t) },
    { id: "epochs", name: "Epochs", get: (t) => t.epochs[t.epochs.length - 1] ?? 0, show: (v, t) => `${v}${t.planned ? ` / ${t.planned}` : ""}`, n: true },
    { id: "best", name: "Best top-1", get: bestTop1, show: (v) => percent(v), n: true },
    { id: "error", name: "± std error", get: (t) => t.std_error ?? null, show: (v, t) => (bestTop1(t) === null ? "" : v === null ? "unknown" : (100 * v).toFixed(2)), n: true },
    { id: "at", name: "at epoch", get: (t) => at(t, "epochs"), n: true },
    { id: "last", name: "Last top-1", get: (t) => t.top1[t.top1.length - 1] ?? null, show: (v) => percent(v), n: true },
    { id: "rgb", name: "RGB at best", get: (t) => at(t, "rgb"), show: (v) => percent(v), n: true },
    { id: "pose", name: "Pose at best", get: (t) => at(t, "pose"), show: (v) => percent(v), n: true },
    ...["2:1", "1:2"].map((ratio) => ({ id: `ratio ${ratio}`, name: `RGB:pose ${ratio}`, get: (t) => (t.ratios || {})[ratio] ?? null, show: (v) => percent(v), n: true, hidden: !data.trials.some((t) => (t.ratios || {})[ratio] !== undefined) })),
    { id: "lr", name: "lr now", get: (t) => t.lr[t.lr.length - 1] ?? null, show: number, n: true, hidden: true },
    { id: "loss", name: "Loss", get: (t) => t.loss[t.loss.length - 1] ?? null, show: number, n: true, hidden: true },
    { id: "hours", name: "GPU hours", get: (t) => t.gpu_hours, show: (v) => (v === null ? UNKNOWN : v.toFixed(1)), n: true, hidden: true },
    ...gpuColumns(data),
    { id: "attempts", name: "Attempts", get: (t) => t.attempts, n: true, hidden: true },
    { id: "gate", name: "Last rule", get: (t) => (latestVerdict(t) || {}).rule ?? null, hidden: true },
    { id: "reason", name: "Reason", get: (t) => t.reason || (latestVerdict(t) || {}).reason || null, kind: "reason" },
    { id: "wandb", name: "W&B", get: (t) => t.wandb, kind: "link", hidden: !data.trials.some((t) => t.wandb) },
  ];
  const searched = paths.map((path) => ({ id: `p:${path}`, name: names[path], title: path, get: (t) => t.params[path] ?? null, show: text, n: data.trials.every((t) => typeof (t.params[path] ?? 0) === "number") }));
  return [...fixed.slice(0, 14), ...searched, ...fixed.slice(14)];
}

/* What the GPUs did: mean use, share of the time below 10 %, most memory of one, energy. */
function gpuColumns(data) {
  const hidden = !data.trials.some((t) => t.gpu);
  const of = (key) => (t) => (t.gpu ? t.gpu[key] ?? null : null);
  const share = (v) => (v === null ? "" : `${Math.round(100 * v)} %`);
  return [
    { id: "gpu use", name: "GPU use", get: of("use"), show: share, n: true, hidden },
    { id: "gpu idle", name: "GPU waits", get: of("idle"), show: share, n: true, hidden },
    { id: "gpu memory", name: "GPU memory (GiB)", get: of("peak_mib"), show: (v) => (v === null ? "" : (v / 1024).toFixed(1)), n: true, hidden },
    { id: "gpu wh", name: "GPU energy (Wh)", get: of("wh"), show: (v) => (v === null ? "" : v.toFixed(0)), n: true, hidden },
  ];
}

/* Where a trial comes from: the plan, a search, an earlier run's log, a second seed. */
function kindOf(trial) {
  if (trial.imported) return `imported (${trial.imported})`;
  if (trial.confirms) return `confirms ${trial.confirms}`;
  return trial.recipe ? "recipe" : "searched";
}

function stateOf(trial) {
  const name = STATES[trial.state] || trial.state;
  return trial.phase === "interrupted" || trial.phase === "paused" ? trial.phase : name;
}

function cell(column, trial) {
  const value = column.get(trial);
  if (column.kind === "link") return el("td", {}, value ? el("a", { href: value, rel: "noreferrer" }, "open") : UNKNOWN);
  const shown = column.show ? column.show(value, trial) : text(value);
  if (column.id === "state") return el("td", {}, el("span", { class: `state s-${trial.state}` }, say(shown)));
  return el("td", { class: column.kind || (column.n ? "n" : "wide") }, column.kind === "reason" ? sayAll(shown) : shown);
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return text(a).localeCompare(text(b), "en", { numeric: true });
}

/* Unknown values stay last whichever way one sorts. */
function sorted(trials, column, down) {
  return [...trials].sort((x, y) => {
    // Another metric or other clips: never ranked among those of the plan's own.
    if (column.id === "best" && Boolean(x.apart) !== Boolean(y.apart)) return x.apart ? 1 : -1;
    const [a, b] = [column.get(x), column.get(y)];
    if (a === null || b === null) return compare(a, b);
    return down ? compare(b, a) : compare(a, b);
  });
}

function matches(trial, words) {
  const hay = [trial.id, trial.plan && `plan ${trial.plan}`, stateOf(trial), trial.cause, trial.reason, ...trial.verdicts.map((v) => `${v.verdict} ${v.reason || ""}`), ...Object.entries(trial.params).map(([k, v]) => `${k}=${text(v)}`)].join(" ").toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => hay.includes(word));
}

function trialsTable(state, rows, on) {
  const columns = state.columns.filter((c) => !state.hidden.has(c.id));
  const head = columns.map((c) => {
    const active = state.sort.id === c.id;
    const arrow = el("i", { "aria-hidden": "true" }, active ? (state.sort.down ? "↓" : "↑") : "");
    const order = active ? (state.sort.down ? "descending" : "ascending") : null;
    return el("th", { scope: "col", class: c.n ? "n" : null, title: c.title, "aria-sort": order }, el("button", { type: "button", "data-sort": c.id, onclick: () => on.sort(c.id) }, say(c.name), arrow));
  });
  const body = rows.map((trial) => {
    const picked = state.picked.has(trial.id);
    const box = el("input", { type: "checkbox", "data-pick": trial.id, "aria-label": `Pick ${trial.id}`, checked: picked, onchange: () => on.pick(trial.id) });
    const [first, ...rest] = columns;
    return el("tr", { class: picked ? "picked" : null }, el("td", {}, box), el("th", { scope: "row" }, el("a", { href: `#${new URLSearchParams({ trial: trial.id })}` }, text(first.get(trial)))), ...rest.map((c) => cell(c, trial)));
  });
  byId("table").replaceChildren(
    el("caption", { class: "visually-hidden" }, "Trials of the sweep; the buttons in the first row sort"),
    el("thead", {}, el("tr", {}, el("td", {}, el("span", { class: "visually-hidden" }, "Picked")), ...head)), el("tbody", {}, ...body));
}

function numbersTable(picked) {
  if (!picked.length) return el("p", { class: "note" }, say("Pick runs to see their numbers."));
  const epochs = [...new Set(picked.flatMap((t) => t.epochs))].sort((a, b) => a - b);
  const value = (t, epoch) => { const i = t.epochs.indexOf(epoch); return i < 0 ? "" : percent(t.top1[i]); };
  return el("table", {}, el("caption", {}, say("Fused top-1 by epoch")),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("Epoch")), ...picked.map((t) => el("th", { scope: "col", class: "n" }, t.id)))),
    el("tbody", {}, ...epochs.map((epoch) => el("tr", {}, el("th", { scope: "row" }, String(epoch)), ...picked.map((t) => el("td", { class: "n" }, value(t, epoch)))))));
}

function diffTable(picked, all) {
  if (picked.length < 2) return el("p", { class: "note" }, say("Pick two runs or more, in the table above."));
  const values = (t, key) => t.params[key] ?? t.config[key];
  const keys = [...new Set(picked.flatMap((t) => [...Object.keys(t.params), ...Object.keys(t.config)]))].sort();
  const differs = (key) => new Set(picked.map((t) => text(values(t, key)))).size > 1;
  const shown = keys.filter((key) => all || differs(key));
  if (!shown.length) return el("p", { class: "note" }, say("Their configurations are the same."));
  const rows = shown.map((key) => el("tr", {}, el("th", { scope: "row" }, key), ...picked.map((t) => el("td", { class: text(values(t, key)) === text(values(picked[0], key)) ? "wide" : "wide differs" }, text(values(t, key))))));
  return el("table", {}, el("caption", {}, say(`Compared with ${picked[0].id}; what differs from it is marked`)),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("Config path")), ...picked.map((t) => el("th", { scope: "col" }, t.id)))), el("tbody", {}, ...rows));
}

function realTable(picked, data) {
  const names = new Set(picked.map((t) => t.id));
  const pairs = (data.differences || []).filter((d) => names.has(d.a) && names.has(d.b));
  if (!pairs.length) return el("p", { class: "note" }, "Pick two runs or more that have measured something.");
  const said = (d) => (d.comparable ? (d.real === null ? "not tested" : d.real ? "real" : "chance") : "not comparable");
  const points = (d) => (d.difference === null ? UNKNOWN : `${(100 * d.difference).toFixed(2)} ± ${d.std_error === null ? "unknown" : (100 * d.std_error).toFixed(2)}`);
  const rows = pairs.map((d) => el("tr", {}, el("th", { scope: "row" }, say(`${d.a} against ${d.b}`)), el("td", { class: "n" }, points(d)), el("td", { class: "n" }, d.p_adjusted === null ? UNKNOWN : number(d.p_adjusted)), el("td", {}, say(said(d))), el("td", { class: "reason" }, say(d.sentence))));
  const head = ["Runs", "Points apart", "p"].map((name, i) => el("th", { scope: "col", class: i ? "n" : null }, say(name)));
  return el("table", {}, el("caption", { class: "visually-hidden" }, "Pairs of picked runs"), el("thead", {}, el("tr", {}, ...head, el("th", { scope: "col" }, say("Verdict")), el("th", { scope: "col" }, say("In words")))), el("tbody", {}, ...rows));
}

function seedsTable(data) {
  const seeds = data.confirmation;
  if (!seeds) return null;
  const points = (value) => (value === null ? UNKNOWN : (100 * value).toFixed(2));
  const rows = seeds.trials.map((one) => el("tr", {}, el("th", { scope: "row" }, one.trial), ...[one.mean, one.spread, one.mean_std_error].map((v) => el("td", { class: "n" }, points(v))), el("td", { class: "n" }, String(one.values.length)), el("td", { class: "n" }, points(one.first))));
  const head = ["Trial", "Mean", "Deviation", "Error of the mean", "Seeds", "First reading"].map((name, i) => el("th", { scope: "col", class: i ? "n" : null }, say(name)));
  const chance = (value) => (value > 0.995 ? "above 99 %" : value < 0.005 ? "below 1 %" : percent(value, 0));
  const order = rows.length < 2 ? "" : seeds.chance_order === null ? "The chance that this order is right is unknown." : `The chance that this order is right is ${chance(seeds.chance_order)}.`;
  return el("table", {}, el("caption", {}, `${say("Repeated on new seeds, top-1 in percent.")} ${say(order)}`), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
}

/* Accuracy of each class by picked run; the darker a cell, the more of its clips are right. */
function drawClasses(picked) {
  const has = picked.filter((t) => t.class_top1);
  byId("classes-section").hidden = !has.length;
  const count = Math.max(0, ...has.map((t) => t.class_top1.length));
  const shade = (v) => (v === null || v === undefined ? "n" : `n heat h${Math.round(10 * v)}`);
  const rows = Array.from({ length: count }, (_, c) => el("tr", {}, el("th", { scope: "row" }, String(c)), ...has.map((t) => el("td", { class: shade(t.class_top1[c]) }, percent(t.class_top1[c] ?? null, 1)))));
  byId("classes").replaceChildren(el("table", {}, el("caption", { class: "visually-hidden" }, "Accuracy of each class at the best epoch"), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, say("Class")), ...has.map((t) => el("th", { scope: "col", class: "n" }, t.id)))), el("tbody", {}, ...rows)));
}

function drawImportances(data) {
  const studies = data.importances || [];
  byId("importance-section").hidden = !studies.length;
  const names = shortNames([...new Set(studies.flatMap((s) => Object.keys(s.values || {})))]);
  const table = (s) => el("table", {}, el("caption", {}, say(s.sentence)), el("tbody", {}, ...Object.entries(s.values).map(([path, share]) => el("tr", {}, el("th", { scope: "row", title: path }, names[path]), el("td", { class: "n" }, percent(share, 0)), el("td", {}, el("meter", { min: 0, max: 1, value: share, "aria-label": `Share of ${path}` }))))));
  byId("importance").replaceChildren(...studies.map((s) => (s.values ? table(s) : el("p", { class: "note" }, say(s.sentence)))));
}

function ladderStep(data, variant, index, trial) {
  const shown = trial ? stateOf(trial) : "next";
  const best = trial && bestTop1(trial) !== null ? ` · ${say(`best ${percent(bestTop1(trial))} in ${counted(trial.epochs[trial.epochs.length - 1], "epoch")}`)}` : "";
  const reason = trial ? trial.reason || (latestVerdict(trial) || {}).reason : null;
  return el("li", {}, el("b", {}, variant.name, variant.plan ? el("span", { class: "badge" }, ` ${say(`plan ${variant.plan}`)}`) : null),
    el("span", { class: `state s-${trial ? trial.state : "WAITING"}` }, say(shown)), el("span", { class: "badge" }, best), reason ? el("small", {}, sayAll(reason)) : null);
}

function drawLadder(data) {
  byId("ladder-section").hidden = !data.ladder;
  if (!data.ladder) return;
  const variant = (name) => data.variants.find((v) => v.name === name) || { name };
  const recipe = (name) => data.trials.findLast((t) => t.variant === name && t.recipe);
  const steps = data.ladder.path.map((name, i) => ladderStep(data, variant(name), i, recipe(name)));
  const rest = data.variants.filter((v) => v.in_ladder && !data.ladder.path.includes(v.name));
  const beside = (v) => (recipe(v.name) ? `${stateOf(recipe(v.name))}, run beside the ladder` : "not needed so far");
  const untried = rest.map((v) => el("li", { class: "untried" }, el("b", {}, v.name, v.plan ? el("span", { class: "badge" }, ` plan ${v.plan}`) : null), say(beside(v))));
  byId("ladder").replaceChildren(...steps, ...untried);
  byId("ladder-why").textContent = data.ladder.why ? say(`${data.ladder.why}.`) : "";
}

function drawVerdicts(trials) {
  const word = (v) => el("span", { class: `state v-${v.verdict}` }, say(v.verdict));
  const line = (v) => el("li", {}, `${say("Epoch")} ${v.epoch}: `, word(v), v.top1 !== null ? ` ${say(`at ${percent(v.top1)}${v.std_error ? ` ± ${(100 * v.std_error).toFixed(2)}` : ""}.`)} ` : ". ", sayAll(v.reason || ""), v.next ? ` ${say(`Next: ${v.next}.`)}` : "");
  const groups = trials.filter((t) => t.verdicts.length).map((t) =>
    el("details", { class: "verdict", open: t.verdicts.some((v) => v.verdict !== "go") }, el("summary", {}, `${t.id} · `, el("span", { class: `state s-${t.state}` }, say(stateOf(t)))),
      el("ol", {}, ...t.verdicts.filter((v) => v.verdict !== "go" || v.rule).map(line), t.verdicts.every((v) => v.verdict === "go" && !v.rule) ? el("li", {}, say("Nothing to object at any epoch.")) : null)));
  byId("verdicts").replaceChildren(...(groups.length ? groups : [el("p", { class: "note" }, say("No verdict yet."))]));
}
