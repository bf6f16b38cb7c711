"""`appendix.md`: what a paper's appendix holds: verdicts, classes, pairs, code, diary."""

from collections import Counter
from collections.abc import Iterable, Sequence

from pipeline.plan.verdict import percent, standard_error
from pipeline.report.paper.paper_tables import GPU_FIGURES, markdown
from pipeline.report.paper.story import story
from pipeline.report.paper.sweep_summary import SweepSummary
from pipeline.report.stats.repetitions import confirmation_text
from pipeline.report.words import translate
from pipeline.results import SweepResults, TrialResult
from pipeline.shared.predictions import Predictions


def appendix(
    summary: SweepSummary,
    results: SweepResults,
    best: TrialResult | None,
    price: float | None,
    lang: str = "en",
) -> str:
    """Return the appendix as Markdown.

    Args:
        best: the trial whose classes are shown.
        price: of a GPU hour, for the diary.
        lang: of headings and verdicts; the diary's own sentences are English.
    """
    kept = best.predictions() if best is not None else None
    parts = [
        [f"# {translate('Appendix', lang)}"],
        _verdicts(summary, lang),
        _classes(best, kept, lang),
        _pairs(summary, lang),
        _seeds(summary, lang),
        _settings(summary, lang),
        *_gpus(summary, lang),
        _code(summary, lang),
        [story(results, summary, price, lang).replace("\n## ", "\n### ").replace("# ", "## ", 1)],
    ]
    return "\n\n".join("\n".join(part).strip() for part in parts) + "\n"


def _items(lines: Iterable[str]) -> list[str]:
    return [f"- {markdown(line)}" for line in lines]


def _heading(english: str, lang: str) -> str:
    return f"## {translate(english, lang)}"


def _head(names: Sequence[str], rule: str, lang: str) -> list[str]:
    """Return the first two lines of a table."""
    return [f"| {' | '.join(translate(name, lang) for name in names)} |", rule]


def _seeds(summary: SweepSummary, lang: str) -> list[str]:
    lines = [translate(line, lang) for line in confirmation_text(summary.data["confirmation"])]
    return [_heading("Seeds", lang), "", *(_items(lines) or [translate("None.", lang)])]


def _verdicts(summary: SweepSummary, lang: str) -> list[str]:
    rows = [
        f"| {markdown(trial['id'])} | {verdict['epoch']} | {translate(verdict['verdict'], lang)} "
        f"| {markdown(translate(str(verdict['reason'] or ''), lang))} "
        f"| {markdown(verdict['next'] or '')} |"
        for trial in summary.data["trials"]
        for verdict in trial["verdicts"]
        if verdict["rule"]
    ]
    names = ("Trial", "Epoch", "Verdict", "Reason", "Next")
    head = _head(names, "|---|---:|---|---|---|", lang)
    none = [translate("No rule has acted.", lang)]
    return [_heading("Verdicts", lang), "", *([*head, *rows] if rows else none)]


CLASS_COLUMNS = ("Class", "Clips", "Accuracy (%)", "Standard error", "Most often taken for")


def _classes(best: TrialResult | None, kept: Predictions | None, lang: str) -> list[str]:
    """Return the accuracy of each class at the best epoch, with its most frequent confusion."""
    if best is None or kept is None:
        none = translate("No predictions are kept of the best trial.", lang)
        return [_heading("Classes", lang), "", none]
    lines = [
        _heading(f"Classes of {markdown(best.name)}, epoch {kept.epoch}", lang),
        "",
        *_head(CLASS_COLUMNS, "|---:|---:|---:|---:|---|", lang),
    ]
    pairs = Counter(zip(kept.labels, kept.predicted, strict=True))
    for label in sorted(set(kept.labels)):
        given = {guess: count for (truth, guess), count in pairs.items() if truth == label}
        clips, right = sum(given.values()), given.get(label, 0)
        error = standard_error(right / clips, clips) or 0.0
        wrong = [(-count, guess) for guess, count in given.items() if guess != label]
        worst = f"{min(wrong)[1]} ({-min(wrong)[0]})" if wrong else ""
        lines.append(
            f"| {label} | {clips} | {100 * right / clips:.2f} | {100 * error:.2f} | {worst} |"
        )
    return lines


def _pairs(summary: SweepSummary, lang: str) -> list[str]:
    pairs = summary.data["differences"]
    lines = [_heading("Differences", lang), ""]
    if not pairs:
        return [*lines, translate("There is nothing to compare.", lang)]
    for pair in pairs:
        lines.append(f"- {markdown(translate(pair['sentence'], lang))}")
    return lines


def _settings(summary: SweepSummary, lang: str) -> list[str]:
    """Return what the variants' best trials do differently."""
    rows = summary.rows[:12]
    values = [{**row.trial["config"], **row.trial["params"]} for row in rows]
    paths = sorted({path for one in values for path in one})
    shown = [path for path in paths if len({str(one.get(path)) for one in values}) > 1]
    lines = [_heading("Settings that differ", lang), ""]
    if not shown:
        return [*lines, translate("The trials in the table differ in none.", lang)]
    head = " | ".join(markdown(row.label) for row in rows)
    lines += [f"| {translate('Setting', lang)} | {head} |", f"|---|{'---|' * len(rows)}"]
    for path in shown:
        cells = " | ".join(markdown(str(one.get(path, ""))) for one in values)
        lines.append(f"| {markdown(path)} | {cells} |")
    return lines


def _gpus(summary: SweepSummary, lang: str) -> list[list[str]]:
    """Return what the trials' GPUs did; nothing where none were sampled."""
    trials = [trial for trial in summary.data["trials"] if trial["gpu"]]
    if not trials:
        return []
    names = ("Trial", "Use (%)", "Waits (%)", "Most memory (MiB)", "Energy (Wh)")
    lines = [_heading("GPUs", lang), "", *_head(names, "|---|---:|---:|---:|---:|", lang)]
    for trial in trials:
        use, idle, peak, energy = (trial["gpu"][key] for key in GPU_FIGURES)
        shares = [f"{100 * one:.0f}" if one is not None else "" for one in (use, idle)]
        rest = [f"{one:.0f}" if one is not None else "" for one in (peak, energy)]
        lines.append(f"| {markdown(trial['id'])} | {' | '.join([*shares, *rest])} |")
    explained = "Waits: share of the samples with a use below 10 %. Memory is that of one GPU."
    return [[*lines, "", translate(explained, lang)]]


def _code(summary: SweepSummary, lang: str) -> list[str]:
    head = _head(("Trial", "Top-1 (%)", "Code"), "|---|---:|---|", lang)
    lines = [_heading("Code", lang), "", *head]
    for row in summary.rows:
        code = "; ".join(f"{place} {text}" for place, text in row.trial["code"].items())
        reading = percent(row.top1).removesuffix(" %") if row.top1 is not None else ""
        shown = markdown(code or translate("not recorded", lang))
        lines.append(f"| {markdown(row.name)} | {reading} | {shown} |")
    changed = [line for trial in summary.data["trials"] for line in trial["changed"]]
    return [*lines, "", *_items(f"Changed, {line}" for line in changed)]
