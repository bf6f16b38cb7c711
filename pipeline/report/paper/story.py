"""A sweep's diary: what was tried when and by whom, what the rules said, what it cost.

Made from the run directories' records alone, in the order of time.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.plan.verdict import VerdictKind, percent
from pipeline.report.paper.paper_tables import markdown
from pipeline.report.paper.sweep_summary import SweepSummary, state_of
from pipeline.report.words import translate
from pipeline.results import SweepResults, TrialResult
from pipeline.shared.counted import counted
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.start_record import changes, shown_codes
from pipeline.shared.states import Phase, State

_ENDED = {State.FAIL.value: "failed"}


@dataclasses.dataclass(frozen=True, order=True)
class _Entry:
    """One line of the diary; what has no time comes first."""

    time: str
    trial: str
    text: str


def story(
    results: SweepResults, summary: SweepSummary, price: float | None = None, lang: str = "en"
) -> str:
    """Return the diary as Markdown.

    Args:
        price: of a GPU hour; left out, costs are hours alone.
        lang: of the headings.
    """
    entries = sorted(entry for trial in results.trials for entry in _entries(trial))
    lines = [f"# {translate(f'The diary of {markdown(summary.sweep)}', lang)}", ""]
    day = None
    for entry in entries:
        if entry.time[:10] != day:
            day = entry.time[:10]
            lines += ["", f"## {day or translate('Before any date', lang)}", ""]
        at = f"{entry.time[11:16]} " if entry.time else ""
        lines.append(f"- {at}{entry.text}")
    return "\n".join([*lines, "", *_ending(summary, price, lang), ""])


def _entries(trial: TrialResult) -> Iterator[_Entry]:
    run = RunDir(trial.folder)
    yield from _starts(trial, run)
    times = {m.epoch: m.time or "" for m in trial.epochs}
    for verdict in trial.verdicts:
        if verdict.get("verdict") not in (None, VerdictKind.GO.value):
            epoch = int(verdict.get("epoch") or 0)
            following = f" The plan's next step: {verdict['next']}." if verdict.get("next") else ""
            head = f"{trial.name} after epoch {epoch}: {verdict.get('verdict')}. "
            text = head + _sentence(verdict.get("reason")) + following
            yield _entry(times.get(epoch, _created(trial)), trial, text)
    for one in (read_json(run.overruled) or {}).get("overruled", ()):
        rule, who = one.get("rule") or "a verdict", one.get("by") or "a person"
        text = f"{who} overruled {rule} of {trial.name}: {_sentence(one.get('reason'))}"
        yield _entry(one.get("time"), trial, text)
    for one in (read_json(run.chosen) or {}).get("chosen", ()):
        instead = f" instead of {one['instead_of']}" if one.get("instead_of") else ""
        text = f"{one.get('by') or 'a person'} chose {trial.name} for export{instead}."
        yield _entry(one.get("time"), trial, text)
    yield from _end(trial)


def _starts(trial: TrialResult, run: RunDir) -> Iterator[_Entry]:
    starts = run.read_starts()
    if trial.spec.imported:
        log = trial.spec.imported.get("log")
        yield _entry(_created(trial), trial, f"{trial.name} was imported from {log}.")
        return
    if not starts:
        yield _entry(_created(trial), trial, f"{trial.name} was started{_purpose(trial)}.")
    for at, start in enumerate(starts):
        who = f" by {start['by']}" if start.get("by") else ""
        where = f" on {start['host']}" if start.get("host") else ""
        code = "; ".join(
            f"{place} {text}" for place, text in shown_codes(start.get("code")).items()
        )
        verb = "went on" if at else "was started"
        text = f"{trial.name} {verb}{who}{where}{'' if at else _purpose(trial)} ({code})."
        different = changes(starts[at - 1 : at + 1]) if at else []
        text += "".join(f" Changed, {line}." for line in different)
        yield _entry(start.get("time") or _created(trial), trial, text)


def _purpose(trial: TrialResult) -> str:
    spec = trial.spec
    if spec.confirms:
        return f" to repeat {spec.confirms} on seed {spec.seed}"
    if spec.continues:
        return f" to go on from {spec.continues}"
    if spec.search:
        values = ", ".join(
            f"{path} {value:.4g}" if isinstance(value, float) else f"{path} {value}"
            for path, value in spec.values.items()
        )
        return f" by the search ({values})"
    return f" as plan {spec.plan}" if spec.plan else ""


def _end(trial: TrialResult) -> Iterator[_Entry]:
    if not trial.outcome or not trial.epochs:
        return
    best, last = trial.best, trial.epochs[-1]
    reached = f", best {percent(best.top1)} at epoch {best.epoch}" if best else ""
    state = trial.outcome.get("state")
    word = _ENDED.get(str(state), str(state).lower()) if state else Phase.INTERRUPTED.value
    text = f"{trial.name} ended {word} after epoch {last.epoch}{reached}: "
    yield _entry(last.time, trial, text + _sentence(trial.outcome.get("reason")))


def _entry(time: Any, trial: TrialResult, text: str) -> _Entry:
    return _Entry(str(time or ""), trial.name, markdown(text))


def _created(trial: TrialResult) -> str:
    return str(trial.spec.created or "")


def _sentence(text: Any) -> str:
    return f"{str(text).rstrip('.')}." if text else ""


def _ending(summary: SweepSummary, price: float | None, lang: str) -> list[str]:
    """Return how it stands and what it cost."""
    trials = summary.data["trials"]
    hours = measured_gpu_hours(trials)
    unit = hours_word(trials)
    cost = f"{hours:.2f} {unit}" if hours else f"an unknown number of {unit}"
    money = f", {hours * price:.2f} at {price:g} an hour" if price is not None and hours else ""
    lines = [
        f"## {translate('How it stands', lang)}",
        "",
        f"{counted(len(trials), 'trial')} and {cost}{money}.",
    ]
    winner = summary.winner
    if winner is None:
        return [*lines, "No trial is complete."]
    text = f"The best is {winner.name} with {percent(winner.top1 or 0)} at epoch {winner.epoch}"
    lines.append(markdown(f"{text} ({state_of(winner.trial)})."))
    if winner.seeds:
        lines.append(f"Over new seeds its mean is {percent(winner.seeds['mean'])}.")
    return lines


def hours_word(trials: Sequence[Mapping[str, Any]]) -> str:
    """Return what the hours are of: without a GPU they are hours of processes."""
    devices = {trial["config"].get("(device)") for trial in trials}
    return "process hours" if devices == {"cpu"} else "GPU hours"


def measured_gpu_hours(trials: Sequence[Mapping[str, Any]]) -> float:
    """Return the GPU hours of all measured epochs (on the CPU: process hours)."""
    return sum(trial["gpu_hours"] or 0.0 for trial in trials)
