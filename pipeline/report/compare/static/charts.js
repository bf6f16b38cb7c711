"use strict";
/* The charts: options for ECharts from the data and the picked trials. Nothing here keeps state. */

const DRAWN = new Map();

function draw(id, option, label) {
  if (typeof echarts === "undefined") return; // the library is still being unpacked
  const place = byId(id);
  place.setAttribute("aria-label", label);
  let chart = DRAWN.get(id);
  if (!chart) {
    const many = document.querySelectorAll("#table tbody tr").length > 60;
    chart = echarts.init(place, null, { renderer: many ? "canvas" : "svg" });
    DRAWN.set(id, chart);
  }
  chart.setOption({ animation: false, textStyle: { fontFamily: "inherit" }, ...option }, { notMerge: true });
}

window.addEventListener("resize", () => DRAWN.forEach((chart) => chart.resize()));

function axes(data, name, extra) {
  const soft = css("--soft"), line = css("--line");
  const planned = data.trials.flatMap((t) => [t.planned || 0, ...t.epochs]);
  const first = Math.min(1, ...data.trials.flatMap((t) => t.epochs));
  const style = { axisLabel: { color: soft }, nameTextStyle: { color: soft }, axisLine: { lineStyle: { color: line } }, splitLine: { lineStyle: { color: line } } };
  return {
    grid: { left: 8, right: 18, top: 26, bottom: 6, outerBoundsMode: "same" },
    xAxis: { type: "value", min: first, max: Math.max(2, ...planned), minInterval: 1, name: say("epoch"), nameLocation: "middle", nameGap: 24, ...style, splitLine: { show: false } },
    yAxis: { type: "value", scale: true, name, nameGap: 10, nameTextStyle: { color: soft, align: "left" }, axisLabel: style.axisLabel, splitLine: style.splitLine, ...extra },
  };
}

function tooltip(format) {
  return {
    trigger: "axis", confine: true, backgroundColor: css("--card"), borderColor: css("--line"),
    textStyle: { color: css("--ink"), fontSize: 12 }, extraCssText: "max-width:min(32rem,86vw);white-space:normal;",
    axisPointer: { type: "line", lineStyle: { color: css("--soft"), type: "dashed" } },
    formatter: (points) => format(Array.isArray(points) ? points : [points]),
  };
}

/* One tooltip line a run, best first. Every name goes through ECharts' own HTML escaping. */
function tip(points, show) {
  const safe = echarts.format.encodeHTML;
  const lines = points
    .filter((p) => p.seriesName && p.value && p.value[1] !== null && !p.seriesName.startsWith("~"))
    .sort((a, b) => b.value[1] - a.value[1]);
  if (!lines.length) return "";
  const rows = lines.map((p) => `<div>${p.marker}${safe(p.seriesName)} <b>${safe(show(p.value[1]))}</b>${p.value[2] ? ` · ${safe(String(p.value[2]))}` : ""}</div>`);
  return `<div><b>${safe(say("Epoch"))} ${safe(String(lines[0].value[0]))}</b></div>${rows.join("")}`;
}

function runSeries(data, trial, key, note = () => "") {
  const style = look(data, trial);
  return {
    name: trial.id, type: "line", z: 5, symbol: style.symbol, symbolSize: 5, connectNulls: false,
    showSymbol: trial.epochs.length <= 60, color: style.color, lineStyle: { width: 2.2, type: style.dash },
    data: trial.epochs.map((epoch, i) => [epoch, trial[key][i], note(epoch)]), emphasis: { disabled: true },
  };
}

/* All runs that are not picked, as one faint line a variant with a gap between two trials. */
function faintSeries(data, trials, key) {
  return data.variants.map((variant) => {
    const points = trials.filter((t) => t.variant === variant.name)
      .flatMap((t) => [...t.epochs.map((epoch, i) => [epoch, t[key][i]]), [null, null]]);
    return {
      name: `~${variant.name}`, type: "line", z: 2, silent: true, symbol: "none", data: points,
      color: css(`--c${data.variants.indexOf(variant) % 8}`), lineStyle: { width: 1, opacity: 0.28 }, tooltip: { show: false },
    };
  }).filter((series) => series.data.length);
}

function unique(items) {
  return [...new Map(items.map((item) => [JSON.stringify(item), item])).values()];
}

function planOf(data, picked) {
  const names = new Set((picked.length ? picked : data.trials).map((t) => t.variant));
  const chosen = data.variants.filter((v) => names.has(v.name));
  return {
    bands: unique(chosen.map((v) => v.bands).filter((b) => b.length)),
    gates: unique(chosen.flatMap((v) => v.gates)),
  };
}

function bandSeries(bands) {
  const fill = css("--band");
  return bands.map((band) => ({
    name: "~band", type: "custom", z: 1, silent: true, clip: true, data: [[band[0].epoch, band[0].top1[0]]],
    renderItem: (params, api) => {
      const low = band.map((b) => api.coord([b.epoch, b.top1[0]]));
      const high = band.map((b) => api.coord([b.epoch, b.top1[1]])).reverse();
      return { type: "polygon", shape: { points: [...low, ...high] }, style: { fill } };
    },
  }));
}

const ENDS = { PRUNED: ["path://M1,0 L5,4 L9,0 L10,1 L6,5 L10,9 L9,10 L5,6 L1,10 L0,9 L4,5 L0,1 Z", 13], COMPLETE: ["circle", 11], FAIL: ["triangle", 13] };

function endSeries(data, picked) {
  const marks = picked.filter((t) => ENDS[t.state] && t.epochs.length).map((t) => {
    const [symbol, size] = ENDS[t.state];
    const last = t.epochs.length - 1;
    return { value: [t.epochs[last], t.top1[last]], symbol, symbolSize: size, itemStyle: { color: look(data, t).color, borderColor: css("--card"), borderWidth: 1 } };
  });
  return { name: "~ends", type: "scatter", z: 9, silent: true, data: marks };
}

function range(data, picked, plan, kind) {
  if (kind === "full") return { min: 0, max: 1 };
  const runs = (picked.length ? picked : data.trials).flatMap((t) => t.top1).filter((v) => v !== null);
  const levels = [...plan.bands.flat().flatMap((b) => b.top1), ...plan.gates.flatMap((g) => [g.floor, g.target]), data.goal].filter((v) => v !== null && v !== undefined);
  const all = kind === "plan" && levels.length ? [...levels, ...runs.filter((v) => v > Math.min(...levels) - 0.06)] : runs;
  if (!all.length) return { min: 0, max: 1 };
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const pad = Math.max(0.004, (high - low) * 0.08);
  const step = high - low > 0.25 ? 0.1 : high - low > 0.08 ? 0.02 : 0.005; // so that the ends are ticks
  const tidy = (value) => Number((Math.round(value / step) * step).toFixed(4));
  return { min: Math.max(0, tidy(low - pad - step / 2)), max: Math.min(1, tidy(high + pad + step / 2)) };
}

/* Rates that span more than this are drawn on a logarithmic axis, unless a person chose. */
const WIDE = 20;

function spansWide(picked) {
  const rates = picked.flatMap((t) => t.lr).filter((v) => v !== null && v > 0);
  return rates.length > 0 && Math.max(...rates) / Math.min(...rates) > WIDE;
}

function drawTop1(data, picked, others, options) {
  const plan = planOf(data, picked);
  const note = (trial) => (epoch) => (trial.verdicts.find((v) => v.epoch === epoch && v.verdict !== "go") || {}).reason || "";
  const span = range(data, picked, plan, options.range);
  const thresholds = options.plan ? thresholdsOf(data, plan.gates) : [];
  const outside = outsideOf(data, picked, span);
  const series = [
    ...(options.others ? faintSeries(data, others, "top1") : []),
    ...(options.plan ? bandSeries(plan.bands) : []),
    thresholdSeries(thresholds, "~gates", (one) => one.kind !== "level"),
    thresholdSeries(thresholds, "~levels", (one) => one.kind === "level"),
    ...picked.map((t) => runSeries(data, t, "top1", note(t))),
    endSeries(data, picked),
    labelSeries(thresholds, outside, options.left),
  ];
  const text = picked.map((t) => `${t.id} ${STATES[t.state] || t.state}, best ${percent(bestTop1(t))}`).join("; ");
  draw("chart-top1", {
    ...axes(data, say("top-1, fused"), { ...span, axisLabel: { color: css("--soft"), formatter: (v) => `${Number((100 * v).toFixed(1))} %` } }),
    tooltip: tooltip((points) => tip(points, percent)), series,
  }, `Top-1 accuracy over epochs. ${text || "No run is picked."}`);
}

function drawBranch(data, picked, key) {
  const has = picked.filter((t) => t[key].some((v) => v !== null));
  const text = has.map((t) => `${t.id} ends at ${percent(t[key][t[key].length - 1])}`).join("; ");
  draw(`chart-${key}`, {
    ...axes(data, "top-1", { axisLabel: { color: css("--soft"), formatter: (v) => `${Number((100 * v).toFixed(1))} %` } }),
    tooltip: tooltip((points) => tip(points, percent)), series: has.map((t) => runSeries(data, t, key)),
  }, `Top-1 of the ${key} branch over epochs. ${text || "No picked run has it."}`);
}

function drawLr(data, picked, logarithmic) {
  const names = [...new Set(picked.map((t) => t.variant))];
  const chosen = data.variants.filter((v) => names.includes(v.name));
  const courses = chosen.filter((v) => v.lr).map((v) => ({
    name: `~true ${v.name}`, type: "line", z: 2, silent: true, symbol: "none",
    color: css(`--c${data.variants.indexOf(v) % 8}`), lineStyle: { width: 6, opacity: 0.25 },
    data: v.lr.map((value, i) => [i + 1, value]),
  }));
  const table = unique(chosen.flatMap((v) => v.bands).filter((b) => b.lr).map((b) => [b.epoch, b.lr]));
  draw("chart-lr", {
    ...axes(data, say("learning rate"), { type: logarithmic ? "log" : "value", scale: logarithmic, axisLabel: { color: css("--soft"), formatter: number } }),
    tooltip: tooltip((points) => tip(points, number)),
    series: [...courses, ...picked.map((t) => runSeries(data, t, "lr")), { name: "~plan's table", type: "scatter", z: 3, silent: true, symbol: "diamond", symbolSize: 11, data: table, itemStyle: { color: "transparent", borderColor: css("--soft"), borderWidth: 1.4 } }],
  }, `Learning rate over epochs, logged and as the schedule gives it, of ${picked.map((t) => t.id).join(", ") || "no run"}.`);
}

/* Top-1 by the share of RGB, of picked runs whose scores were kept. */
function drawRatios(data, picked) {
  const has = picked.filter((t) => t.ratio_curve);
  byId("ratio-section").hidden = !has.length;
  if (!has.length) return;
  const base = axes(data, say("top-1, fused"), { axisLabel: { color: css("--soft"), formatter: (v) => `${Number((100 * v).toFixed(1))} %` } });
  const series = has.map((t) => {
    const style = look(data, t);
    return { name: t.id, type: "line", symbol: "none", color: style.color, lineStyle: { width: 2.2, type: style.dash }, data: t.ratio_curve.share.map((share, i) => [share, t.ratio_curve.top1[i]]) };
  });
  const safe = (text) => echarts.format.encodeHTML(String(text)); // the library comes later than the page
  const atRatio = (points) => `<div><b>RGB ${safe(Number(points[0].value[0]).toFixed(2))}</b></div>` + points.map((p) => `<div>${p.marker}${safe(p.seriesName)} <b>${safe(percent(p.value[1]))}</b></div>`).join("");
  draw("chart-ratio", { ...base, xAxis: { ...base.xAxis, min: 0, max: 1, minInterval: 0, name: say("share of RGB") }, tooltip: tooltip(atRatio), series },
    `Top-1 by the share of RGB. ${has.map((t) => `${t.id} is best with ${percent(Math.max(...t.ratio_curve.top1))}`).join("; ")}.`);
}

/* Which searched values vary, and on what kind of axis each belongs. */
function dimensions(data) {
  const paths = [...new Set(data.trials.flatMap((t) => Object.keys(t.params)))];
  const names = shortNames(paths);
  return paths.map((path) => {
    const values = data.trials.map((t) => t.params[path]).filter((v) => v !== undefined);
    const numbers = values.every((v) => typeof v === "number");
    const spread = numbers && Math.min(...values) > 0 ? Math.max(...values) / Math.min(...values) : 1;
    const kind = !numbers ? "category" : spread > 8 ? "log" : "value";
    return { path, name: names[path], kind, varies: new Set(values.map(text)).size > 1, values };
  }).filter((d) => d.varies);
}

function drawParallel(data, picked, narrow) {
  const dims = dimensions(data);
  const rows = data.trials.filter((t) => bestTop1(t) !== null && dims.every((d) => t.params[d.path] !== undefined));
  byId("parallel-section").hidden = !dims.length || rows.length < 2;
  if (byId("parallel-section").hidden) return;
  const chosen = new Set(picked.map((t) => t.id)), soft = css("--soft");
  const common = { nameTextStyle: { color: css("--ink") }, axisLine: { lineStyle: { color: soft } }, axisLabel: { color: soft, formatter: number }, nameLocation: "end" };
  const axis = dims.map((d, dim) => ({ dim, name: d.name, type: d.kind, scale: true, ...common, ...(d.kind === "category" ? { data: [...new Set(d.values.map(text))], axisLabel: { color: soft } } : {}) }));
  axis.push({ dim: dims.length, name: say("best top-1"), type: "value", scale: true, ...common, axisLabel: { color: soft, formatter: (v) => percent(v, 1) } });
  const value = (t, d) => (d.kind === "category" ? text(t.params[d.path]) : t.params[d.path]);
  draw("chart-parallel", {
    parallel: { left: 45, right: 60, top: 36, bottom: 22, axisExpandable: false }, parallelAxis: axis,
    series: [{ type: "parallel", smooth: false, inactiveOpacity: 0.04, activeOpacity: 1, data: rows.map((t) => ({ name: t.id, value: [...dims.map((d) => value(t, d)), bestTop1(t)], lineStyle: { color: look(data, t).color, width: chosen.has(t.id) ? 3 : 1.2, opacity: chosen.has(t.id) ? 1 : 0.4 } })) }],
  }, `Searched values ${dims.map((d) => d.name).join(", ")} and best top-1 of ${rows.length} trials; the same figures are columns of the table.`);
}
