"""Write a report: a folder of tables, figures and text for people who write about a sweep.

The folder is replaced as a whole. It holds no date of its own, so the same run directories give
the same bytes, on any day.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, NoResult
from pipeline.plan.sweep import Sweep
from pipeline.report.paper import figures
from pipeline.report.paper.appendix import appendix
from pipeline.report.paper.methods import methods, references
from pipeline.report.paper.paper_tables import epochs_csv, results_csv, table_md, table_tex
from pipeline.report.paper.sweep_summary import SweepSummary, summary_of
from pipeline.results import SweepResults, TrialResult, open_sweep
from pipeline.shared.files import replacing_folder

#: What a report holds, no more and no less.
FILES = (
    *("results.csv", "epochs.csv", "table.tex", "table.md"),
    *("curves.pdf", "curves.svg", "curves.png", "ladder.svg", "confusion.pdf"),
    *("methods.md", "appendix.md", "references.bib"),
)


def write_report(
    data: Mapping[str, Any],
    runs: Path,
    out: Path,
    sweep: Sweep | None = None,
    price: float | None = None,
    lang: str = "en",
) -> SweepSummary:
    """Write the report of a sweep.

    Args:
        data: the record of `compare --json`.
        runs: the folder of the sweep's run directories.
        out: the folder to write; an earlier report there is replaced.
        sweep: the plan; without it neither patience nor makers of weights are known.
        price: of a GPU hour, for the diary.
        lang: of headings, legends and verdicts: "en" or "zh".

    Returns:
        What the report says.

    Raises:
        NoResult: nothing has been measured yet.
        InputError: `out` holds something that is not a report.
    """
    _refuse_other(out)
    summary = summary_of(data, sweep.makers if sweep is not None else ())
    if not any(trial["epochs"] for trial in data["trials"]):
        raise NoResult(
            f'Sweep "{summary.sweep}" has measured no epoch yet, so there is nothing to report. '
            f"See how it stands: pcan sweep status {summary.sweep}"
        )
    results = open_sweep(runs)
    with replacing_folder(out) as fresh:
        _write(summary, results, fresh, sweep, price, lang)
        for file in fresh.iterdir():
            file.chmod(0o644)
    return summary


def _write(
    summary: SweepSummary,
    results: SweepResults,
    folder: Path,
    sweep: Sweep | None,
    price: float | None,
    lang: str,
) -> None:
    best = _best(summary, results)
    text, cited = methods(summary, best, sweep, lang)
    texts = {
        "results.csv": results_csv(summary),
        "epochs.csv": epochs_csv(summary),
        "table.tex": table_tex(summary, lang),
        "table.md": table_md(summary, lang),
        "methods.md": text,
        "appendix.md": appendix(summary, results, best, price, lang),
        "references.bib": references(cited),
    }
    for name, content in texts.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    drawn = figures.figures_in(lang)
    figures.draw_curves(summary, folder, drawn)
    figures.draw_ladder(summary, folder, drawn)
    kept = best.predictions() if best is not None else None
    name = best.name if best is not None else "any trial"
    figures.draw_confusion(kept, f"No predictions are kept of {name}.", folder, lang=drawn)


def _best(summary: SweepSummary, results: SweepResults) -> TrialResult | None:
    """Return the trial of the first row, None where its run directory is on another host."""
    names = [row.name for row in summary.rows[:1]]
    return next((trial for trial in results.trials if trial.name in names), None)


def _refuse_other(out: Path) -> None:
    """Refuse a folder that holds anything but a report; nothing is written then."""
    if not out.exists():
        return
    other = not out.is_dir() or {file.name for file in out.iterdir()} - set(FILES)
    if other:
        raise InputError(
            f"{out} exists and is not a report; nothing was written. Use another --out."
        )
