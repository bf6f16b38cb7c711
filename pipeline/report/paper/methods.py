"""`methods.md`: how the sweep was done, as a paragraph for a paper, and what to cite.

Each number comes from the record of `compare --json` or from a trial's specification; what is not
known is left out rather than written as usual.
"""

import ast
import re
from collections import Counter
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Any

from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.report.paper.paper_tables import markdown
from pipeline.report.paper.story import hours_word, measured_gpu_hours
from pipeline.report.paper.sweep_summary import SweepSummary, state_of
from pipeline.report.stats.differences import shown_p
from pipeline.report.words import translate
from pipeline.results import TrialResult
from pipeline.shared.counted import counted
from pipeline.shared.spec import TrialSpec
from pipeline.shared.start_record import shown_codes, shown_gpu

#: BibTeX entries, a blank line between two; a report cites those that its methods use.
BIBLIOGRAPHY = "references.bib"


def methods(
    summary: SweepSummary,
    best: TrialResult | None,
    sweep: Sweep | None = None,
    lang: str = "en",
) -> tuple[str, list[str]]:
    """Return the paragraph as Markdown, and the keys it cites.

    Args:
        best: the trial of the summary's first row, None without one.
        sweep: the plan, where it is at hand.
        lang: of the heading; the paragraph is English.
    """
    spec = best.spec if best is not None else TrialSpec()
    sentences = [
        *_data(summary, spec),
        *_training(spec),
        *_settings(best),
        *_rules(summary),
        *_patience(summary, sweep),
        *_trials(summary),
        *_result(summary),
        *_tests(summary),
        *_code(spec, best),
    ]
    text = " ".join(sentences)
    return f"# {translate('Methods', lang)}\n\n{text}\n", re.findall(r"\[@(\w+)\]", text)


def references(keys: Collection[str]) -> str:
    """Return the BibTeX entries of the cited works."""
    text = resources.files("pipeline.report.paper").joinpath(BIBLIOGRAPHY).read_text("utf-8")
    entries = [entry.strip() for entry in text.split("\n\n")]
    return "\n\n".join(e for e in entries if e.partition("{")[2].split(",")[0] in keys) + "\n"


def _data(summary: SweepSummary, spec: TrialSpec) -> list[str]:
    metric = markdown(str(summary.data["metric"] or "the validation metric"))
    clips = sorted({trial["clips"] for trial in summary.data["trials"] if trial["clips"]})
    on = f" on {' or '.join(map(str, clips))} validation clips" if clips else ""
    known = {f"{loader} sha256 {digest[:12]}" for loader, digest in _digests(spec)}
    files = f" The annotation files were {markdown(', '.join(sorted(known)))}." if known else ""
    goal = summary.data["goal"]
    aim = f" The goal was {percent(goal)}." if goal is not None else ""
    return [f"Trials were compared by {metric}{on}, each at its best epoch.{aim}{files}"]


def _digests(spec: TrialSpec) -> list[tuple[str, str]]:
    found = (spec.data or {}).get("sha256") or {}
    return [(str(name), str(digest)) for name, digest in found.items()]


def _training(spec: TrialSpec) -> list[str]:
    """Return how the best trial was trained."""
    if not spec.variant:
        return []
    epochs = f" for at most {counted(spec.epochs, 'epoch')}" if spec.epochs else ""
    where = shown_gpu(spec.gpu)
    processes = f" by {counted(spec.nproc, 'process', 'processes')}" if spec.nproc else ""
    seed = f", seed {spec.seed}" if spec.seed is not None else ""
    start = (spec.warm_start or {}).get("checkpoint")
    warm = f", starting from {markdown(str(start).rpartition('/')[2])}" if start else ""
    precision = f", in {spec.precision} mixed precision" if spec.precision else ""
    lines = [
        f"The best trial ({markdown(spec.name)}) was trained with MMAction2 [@mmaction2]{epochs}"
        f"{processes} on {markdown(where)}{seed}{warm}{precision}."
    ]
    changed = {**spec.overrides, **spec.values}
    if changed:
        listed = "; ".join(f"{path} = {value}" for path, value in changed.items())
        lines.append(f"It changes these settings of the base configuration: {markdown(listed)}.")
    return lines


#: What of a resolved config is written out, as it stands there.
SETTINGS = ("optim_wrapper", "param_scheduler", "train_cfg")


def _settings(best: TrialResult | None) -> list[str]:
    """Return optimiser, schedule and batch size of the best trial, as its config has them."""
    try:
        statements = ast.parse(best.config if best is not None else "").body
    except SyntaxError:
        return []
    values = {
        statement.targets[0].id: statement.value
        for statement in statements
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }
    shown = [f"`{name} = {ast.unparse(values[name])}`" for name in SETTINGS if name in values]
    loader = values.get("train_dataloader")
    if isinstance(loader, ast.Call):
        shown += [
            f"`train_dataloader.batch_size = {ast.unparse(one.value)}`"
            for one in loader.keywords
            if one.arg == "batch_size"
        ]
    return [f"Its configuration has {', '.join(shown)}."] if shown else []


def _patience(summary: SweepSummary, sweep: Sweep | None) -> list[str]:
    """Return the rule that ends a trial which no longer improves."""
    found: dict[str, list[str]] = {}
    for row in summary.rows:
        variant = sweep.variants.get(row.variant) if sweep is not None else None
        if variant is not None and variant.patience is not None:
            rule = variant.patience
            text = f"{counted(rule.epochs, 'epoch')} without {percent(rule.min_delta)} more"
            found.setdefault(text, []).append(row.variant)
    return [
        f"Trials of {markdown(', '.join(names))} were to end early after {text}."
        for text, names in found.items()
    ]


def _rules(summary: SweepSummary) -> list[str]:
    """Return the gates and the ladder, as the plan has them."""
    names = {row.variant for row in summary.rows}
    lines = []
    seen: dict[str, list[str]] = {}
    for variant in summary.data["variants"]:
        gates = "; ".join(_gate(gate) for gate in variant["gates"])
        if variant["name"] in names and gates:
            seen.setdefault(gates, []).append(variant["name"])
    for gates, variants in seen.items():
        lines.append(f"{markdown(', '.join(variants))} had these gates: {gates}.")
    ladder = summary.data["ladder"]
    if ladder and ladder["rules"]:
        rules = "; ".join(f"{rule['when']}: {', '.join(rule['next'])}" for rule in ladder["rules"])
        lines.append(
            f"After a stopped variant the plan went on by these rules: {markdown(rules)}."
        )
    return lines


def _gate(gate: Mapping[str, Any]) -> str:
    parts = []
    if gate.get("floor") is not None:
        floor = gate["floor"]
        shown = percent(floor) if isinstance(floor, float | int) else markdown(str(floor))
        parts.append(f"stopped below {shown}")
    if gate.get("target") is not None:
        parts.append(f"watched below {percent(gate['target'])}")
    if gate.get("improve_on_epoch") is not None:
        better = f" by {percent(gate['min_delta'])}" if gate.get("min_delta") else ""
        parts.append(f"stopped unless better than at epoch {gate['improve_on_epoch']}{better}")
    return f"epoch {gate['epoch']}, {' and '.join(parts)}"


def _trials(summary: SweepSummary) -> list[str]:
    trials = summary.data["trials"]
    counts = Counter(state_of(trial) for trial in trials)
    listed = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    epochs = sum(sum(epoch > 0 for epoch in trial["epochs"]) for trial in trials)
    hours = measured_gpu_hours(trials)
    cost = f", {hours:.2f} {hours_word(trials)}" if hours else ""
    energy = [t["gpu"]["wh"] for t in trials if t["gpu"] and t["gpu"]["wh"] is not None]
    cost += f", {sum(energy) / 1000:.2f} kWh of the GPUs of {len(energy)}" if energy else ""
    return [
        f"{counted(len(trials), 'trial')} ({listed}) of "
        f"{counted(len({t['variant'] for t in trials}), 'variant')} were trained, as studies of "
        f"Optuna [@optuna2019], in all {counted(epochs, 'epoch')}{cost}."
    ]


def _result(summary: SweepSummary) -> list[str]:
    winner, second = summary.winner, summary.runner_up
    if winner is None:
        return ["No trial is complete, so there is no result."]
    error = winner.trial["std_error"]
    spread = f" (standard error {100 * error:.2f} points)" if error is not None else ""
    lines = [
        f"The best reading is {percent(winner.top1 or 0)}{spread} of {markdown(winner.name)} at "
        f"epoch {winner.epoch}."
    ]
    if winner.seeds:
        one = winner.seeds
        sd = f", standard deviation {100 * one['spread']:.2f} points" if one["spread"] else ""
        lines.append(
            f"Trained again on {counted(len(one['values']), 'new seed')} it has a mean of "
            f"{percent(one['mean'])}{sd}; the reading that chose it is left out."
        )
    if second is not None and second.difference is not None:
        lines.append(markdown(second.difference["sentence"]))
    expected = summary.data["on_new_clips"]
    if expected and expected["expected"] is not None:
        lines.append(f"{markdown(expected['sentence'])} [@tsamardinos2018]")
    return lines


def _tests(summary: SweepSummary) -> list[str]:
    tested = [d for d in summary.data["differences"] if d["p"] is not None]
    if not tested:
        return ["No pair of trials could be compared clip by clip."]
    real = sum(bool(d["real"]) for d in tested)
    corrected = f", corrected for {len(tested)} pairs [@holm1979]" if len(tested) > 1 else ""
    verb = "is" if real == 1 else "are"
    least = min(d["p_adjusted"] for d in tested)
    return [
        f"Pairs were compared on the same clips by McNemar's test [@mcnemar1947]{corrected}; "
        f"{real} of {counted(len(tested), 'difference')} {verb} real (the smallest p "
        f"{_p(least)})."
    ]


def _p(value: float) -> str:
    shown = shown_p(value)
    return f"is {shown}" if shown[0].isalpha() else f"= {shown}"


def _code(spec: TrialSpec, best: TrialResult | None) -> list[str]:
    if best is None:
        return []
    codes = [f"The code of {p}: {markdown(t)}." for p, t in shown_codes(best.code).items()]
    versions = ", ".join(f"{name} {version}" for name, version in spec.versions.items())
    return [*codes, f"The packages were {markdown(versions)}."] if versions else codes
