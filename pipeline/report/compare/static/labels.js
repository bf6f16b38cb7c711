"use strict";
/* Thresholds and their labels, and what lies outside the picture: labels never overlap. */

const FONT = "11px system-ui, sans-serif";
const LINE = 14;

/* Gates, goal and best known as { epoch, level, words, color, kind }; a level has no epoch. */
function thresholdsOf(data, gates) {
  const color = { floor: css("--floor"), target: css("--target"), level: css("--goal") };
  const levels = [["goal", data.goal], ["best known", data.best_known]]
    .filter(([, level]) => known(level))
    .map(([name, level]) => ({ epoch: null, level, words: `${say(name)} ${percent(level)}`, color: color.level, kind: "level" }));
  const marks = gates.flatMap((gate) => [["floor", gate.floor], ["target", gate.target]]
    .filter(([, level]) => known(level))
    .map(([kind, level]) => ({ epoch: gate.epoch, level, words: `${say(kind)} ${percent(level, 1)}`, color: color[kind], kind })));
  return [...levels, ...marks];
}

function known(value) { return value !== null && value !== undefined; }

/* Values of the picked runs below or above the picture: one label a run, at its farthest epoch. */
function outsideOf(data, picked, span) {
  return picked.flatMap((trial) => {
    const out = trial.epochs.map((epoch, i) => ({ epoch, value: trial.top1[i] }))
      .filter((p) => known(p.value) && (p.value < span.min || p.value > span.max));
    if (!out.length) return [];
    const below = out.some((p) => p.value < span.min);
    const far = out.reduce((a, b) => (below ? b.value < a.value : b.value > a.value) ? b : a);
    return [{ epochs: out.map((p) => p.epoch), epoch: far.epoch, below, color: look(data, trial).color, words: `${trial.id} ${percent(far.value)} ${below ? "↓" : "↑"}`, kind: "outside" }];
  });
}

/* Lines across the picture for levels, short strokes at a gate's own epoch. */
function thresholdSeries(thresholds, name, wanted) {
  const shown = thresholds.filter(wanted);
  return custom(name, 8, shown.map((one) => [one.epoch ?? 0, one.level]), (params, api) => {
    const one = shown[params.dataIndex], rect = params.coordSys;
    const [x, y] = api.coord([one.epoch ?? 0, one.level]);
    const half = halfStroke(api);
    const across = one.kind === "level";
    const dash = across ? [7, 5] : one.kind === "target" ? [3, 3] : null;
    const shape = { x1: across ? rect.x : x - half, x2: across ? rect.x + rect.width : x + half, y1: y, y2: y };
    return { type: "line", shape, style: { stroke: one.color, lineWidth: across ? 1.2 : 3, lineDash: dash } };
  });
}

/* All labels in one item, since each has to know where the others are. */
function labelSeries(thresholds, outside, left) {
  if (!thresholds.length && !outside.length) return custom("~labels", 10, [], () => null);
  return custom("~labels", 10, [[0, 0]], (params, api) => {
    const rect = params.coordSys, paper = css("--card");
    const anchors = [...thresholds.filter((one) => one.kind === "level"), ...outside, ...thresholds.filter((one) => one.kind !== "level")]
      .map((one) => anchorOf(one, rect, api))
      .filter((one) => one.y >= rect.y - 1 && one.y <= rect.y + rect.height + 1);
    const { placed, unplaced } = placeLabels(anchors, rect);
    left(unplaced.map((one) => one.words));
    return { type: "group", children: [...outside.flatMap((one) => arrows(one, rect, api)), ...placed.flatMap((one) => drawnLabel(one, paper))] };
  });
}

function anchorOf(one, rect, api) {
  if (one.kind === "outside") return { ...one, x: api.coord([one.epoch, 0])[0], y: one.below ? rect.y + rect.height : rect.y, up: one.below };
  const [x, y] = api.coord([one.epoch ?? 0, one.level]);
  return { ...one, x: one.kind === "level" ? rect.x + rect.width : x, y, up: one.kind !== "floor" };
}

/* First come, first placed: the nearest free spot to each anchor, inside the picture. */
function placeLabels(anchors, rect) {
  const placed = [], unplaced = [];
  for (const one of anchors) {
    const width = echarts.format.getTextRect(one.words, FONT).width + 6;
    const spot = spotsOf(one, width, rect).find((s) => placed.every((p) => apart(s, p.box)));
    spot ? placed.push({ ...one, box: spot }) : unplaced.push(one);
  }
  return { placed, unplaced };
}

function spotsOf(one, width, rect) {
  const spots = [];
  const most = Math.ceil(rect.height / LINE);
  for (let row = 0; row <= most; row += 1) {
    for (const up of [one.up, !one.up]) {
      const y = up ? one.y - 3 - LINE * (row + 1) : one.y + 3 + LINE * row;
      if (y < rect.y || y + LINE > rect.y + rect.height) continue;
      for (const shift of [0, 0.6, -0.6, 1.2, -1.2]) {
        const x = Math.max(rect.x, Math.min(one.x - width / 2 + shift * width, rect.x + rect.width - width));
        if (width <= rect.width) spots.push({ x, y, width, height: LINE });
      }
    }
  }
  return spots;
}

function apart(a, b) {
  return a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
}

function drawnLabel(one, paper) {
  const { box } = one, middle = box.x + box.width / 2;
  const words = { type: "text", style: { text: one.words, x: box.x + 3, y: box.y + 1, fill: one.color, stroke: paper, lineWidth: 3, font: FONT, textAlign: "left", textVerticalAlign: "top" } };
  const far = Math.min(Math.abs(box.y - one.y), Math.abs(box.y + LINE - one.y)) > LINE;
  if (!far || one.kind === "level") return [words];
  const end = box.y > one.y ? box.y : box.y + LINE;
  return [{ type: "line", shape: { x1: one.x, y1: one.y, x2: middle, y2: end }, style: { stroke: one.color, lineWidth: 0.8, opacity: 0.6 } }, words];
}

function arrows(one, rect, api) {
  return one.epochs.slice(0, 60).map((epoch) => {
    const x = api.coord([epoch, 0])[0], edge = one.below ? rect.y + rect.height : rect.y, tip = one.below ? -1 : 1;
    const points = [[x - 5, edge + 8 * tip], [x + 5, edge + 8 * tip], [x, edge + tip]];
    return { type: "polygon", shape: { points }, style: { fill: one.color } };
  });
}

function halfStroke(api) { return Math.max(10, api.size([0.9, 0])[0] / 2); }

function custom(name, z, data, renderItem) {
  return { name, type: "custom", z, silent: true, clip: true, data, renderItem };
}
