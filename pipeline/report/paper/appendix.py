"""`appendix.md`: what a paper's appendix holds: verdicts, classes, pairs, code, diary."""

from collections import Counter
from collections.abc import Iterable

from pipeline.plan.verdict import percent, standard_error
from pipeline.report.paper.paper_tables import markdown, shown_p
from pipeline.report.paper.story import story
from pipeline.report.paper.sweep_summary import SweepSummary
from pipeline.report.stats.repetitions import confirmation_text
from pipeline.results import SweepResults, TrialResult
from pipeline.shared.predictions import Predictions


def appendix(
    summary: SweepSummary, results: SweepResults, best: TrialResult | None, price: float | None
) -> str:
    """Return the appendix as Markdown.

    Args:
        best: the trial whose classes are shown.
        price: of a GPU hour, for the diary.
    """
    kept = best.predictions() if best is not None else None
    parts = [
        ["# Appendix"],
        _verdicts(summary),
        _classes(best, kept),
        _pairs(summary),
        ["## Seeds", "", *(_items(confirmation_text(summary.data["confirmation"])) or ["None."])],
        _settings(summary),
        _code(summary),
        [story(results, summary, price).replace("\n## ", "\n### ").replace("# ", "## ", 1)],
    ]
    return "\n\n".join("\n".join(part).strip() for part in parts) + "\n"


def _items(lines: Iterable[str]) -> list[str]:
    return [f"- {markdown(line)}" for line in lines]


def _verdicts(summary: SweepSummary) -> list[str]:
    rows = [
        f"| {markdown(trial['id'])} | {verdict['epoch']} | {verdict['verdict']} | "
        f"{markdown(str(verdict['reason'] or ''))} | {markdown(verdict['next'] or '')} |"
        for trial in summary.data["trials"]
        for verdict in trial["verdicts"]
        if verdict["rule"]
    ]
    head = ["| Trial | Epoch | Verdict | Reason | Next |", "|---|---:|---|---|---|"]
    return ["## Verdicts", "", *([*head, *rows] if rows else ["No rule has acted."])]


def _classes(best: TrialResult | None, kept: Predictions | None) -> list[str]:
    """Return the accuracy of each class at the best epoch, with its most frequent confusion."""
    if best is None or kept is None:
        return ["## Classes", "", "No predictions are kept of the best trial."]
    lines = [
        f"## Classes of {markdown(best.name)}, epoch {kept.epoch}",
        "",
        "| Class | Clips | Accuracy (%) | Standard error | Most often taken for |",
        "|---:|---:|---:|---:|---|",
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


def _pairs(summary: SweepSummary) -> list[str]:
    pairs = summary.data["differences"]
    lines = ["## Differences", ""]
    if not pairs:
        return [*lines, "There is nothing to compare."]
    for pair in pairs:
        p = "" if pair["p_adjusted"] is None else f" Corrected p {shown_p(pair['p_adjusted'])}."
        lines.append(f"- {markdown(pair['sentence'] + p)}")
    return lines


def _settings(summary: SweepSummary) -> list[str]:
    """Return what the variants' best trials do differently."""
    rows = summary.rows[:12]
    values = [{**row.trial["config"], **row.trial["params"]} for row in rows]
    paths = sorted({path for one in values for path in one})
    shown = [path for path in paths if len({str(one.get(path)) for one in values}) > 1]
    lines = ["## Settings that differ", ""]
    if not shown:
        return [*lines, "The trials in the table differ in none."]
    head = " | ".join(markdown(row.label) for row in rows)
    lines += [f"| Setting | {head} |", f"|---|{'---|' * len(rows)}"]
    for path in shown:
        cells = " | ".join(markdown(str(one.get(path, ""))) for one in values)
        lines.append(f"| {markdown(path)} | {cells} |")
    return lines


def _code(summary: SweepSummary) -> list[str]:
    lines = ["## Code", "", "| Trial | Top-1 (%) | Code |", "|---|---:|---|"]
    for row in summary.rows:
        code = "; ".join(f"{place} {text}" for place, text in row.trial["code"].items())
        reading = percent(row.top1).removesuffix(" %") if row.top1 is not None else ""
        lines.append(f"| {markdown(row.name)} | {reading} | {markdown(code or 'not recorded')} |")
    changed = [line for trial in summary.data["trials"] for line in trial["changed"]]
    return [*lines, "", *_items(f"Changed, {line}" for line in changed)]
