"""The tables of a report: CSV in full, LaTeX and Markdown as they are printed."""

from typing import Any

from pipeline.report.compare.compare_trials import best_of_trial
from pipeline.report.csv_table import to_csv
from pipeline.report.paper.sweep_summary import SweepSummary, VariantRow, state_of
from pipeline.report.words import translate

#: LaTeX's special characters; a backslash first, since the others are written with one.
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "''",
}
NOTHING = "--"
#: What `gpu_use` says of a trial.
GPU_FIGURES = ("use", "idle", "peak_mib", "wh")


def results_csv(summary: SweepSummary) -> str:
    """Return a row a trial, numbers in full, fractions."""
    return to_csv(result_rows(summary))


def result_rows(summary: SweepSummary) -> list[dict[str, Any]]:
    """Return what `compare --csv` prints: a row a trial, by names of columns."""
    return [_result(summary, trial) for trial in summary.data["trials"]]


def _result(summary: SweepSummary, trial: Any) -> dict[str, Any]:
    best = best_of_trial(trial)
    row = next((row for row in summary.rows if row.trial is trial), None)
    seeds = row.seeds if row is not None and row.seeds is not None else {}
    difference = row.difference if row is not None and row.difference is not None else {}
    return {
        "trial": trial["id"],
        "variant": trial["variant"],
        "plan": trial["plan"],
        "state": trial["state"],
        "cause": trial["cause"],
        "top1": best[1] if best else None,
        "epoch": best[0] if best else None,
        "std_error": trial["std_error"],
        "clips": trial["clips"],
        "confirms": trial["confirms"],
        "seed": trial["config"].get("(seed)"),
        "mean_over_seeds": seeds.get("mean"),
        "sd_over_seeds": seeds.get("spread"),
        "mean_std_error": seeds.get("mean_std_error"),
        "seeds": len(seeds["values"]) if seeds else None,
        "difference_to_winner": row.points if row is not None else None,
        "difference_std_error": difference.get("std_error"),
        "p_adjusted": difference.get("p_adjusted"),
        "real": difference.get("real"),
        "epochs": max(trial["epochs"], default=0),
        "gpu_hours": trial["gpu_hours"],
        **{f"gpu_{key}": (trial["gpu"] or {}).get(key) for key in GPU_FIGURES},
        "code": trial["code"].get("project"),
        "reason": trial["reason"],
        **{f"value {path}": value for path, value in trial["params"].items()},
    }


def epochs_csv(summary: SweepSummary) -> str:
    """Return a row an epoch of each trial, fractions."""
    keys = ("top1", "rgb", "pose", "lr", "loss")
    return to_csv(
        {
            "trial": trial["id"],
            "epoch": epoch,
            **{key: trial[key][at] for key in keys},
        }
        for trial in summary.data["trials"]
        for at, epoch in enumerate(trial["epochs"])
    )


HEAD = ("Variant", "Top-1 (%)", "Mean over seeds (%)", "n", "Difference (points)", "p", "State")


def cells(row: VariantRow, dash: str, plus_minus: str, minus: str) -> list[str]:
    """Return a row's cells after the name, as they are printed.

    Args:
        dash: stands where there is nothing.
        plus_minus: stands between a value and its error.
        minus: the sign of a negative number.
    """
    seeds, difference = row.seeds, row.difference
    p = difference["p_adjusted"] if difference else None
    return [
        _with_error(row.top1, row.trial["std_error"], dash, plus_minus, minus),
        _with_error(seeds["mean"], seeds["spread"], dash, plus_minus, minus) if seeds else dash,
        str(len(seeds["values"])) if seeds else dash,
        _with_error(row.points, (difference or {}).get("std_error"), dash, plus_minus, minus),
        dash if p is None else p_cell(p),
    ]


def _with_error(
    value: float | None, error: float | None, dash: str, plus_minus: str, minus: str
) -> str:
    if value is None:
        return dash
    shown = f"{round(100 * value, 2) + 0.0:.2f}".replace("-", minus)  # -0.00 is 0.00
    return shown if error is None else f"{shown}{plus_minus}{100 * error:.2f}"


def p_cell(p: float) -> str:
    """Return a p-value as tables print it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def table_tex(summary: SweepSummary, lang: str = "en") -> str:
    """Return a LaTeX table that needs the package booktabs, in Chinese ctex and XeLaTeX too."""
    lines = [
        *([] if lang == "en" else [r"% needs \usepackage{ctex} and xelatex"]),
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex(_caption(summary, lang))}}}",
        rf"\label{{tab:{_label(summary.sweep)}}}",
        r"\begin{tabular}{lrrrrrl}",
        r"\toprule",
        " & ".join(latex(translate(name, lang)) for name in HEAD) + r" \\",
        r"\midrule",
    ]
    for row in summary.rows:
        name = latex(_name(row))
        name = rf"\textbf{{{name}}}" if row is summary.winner else name
        values = cells(row, NOTHING, r" $\pm$ ", "$-$")
        mark = "*" if row.verdict == "real" else ""
        values[3] += mark
        values[4] = values[4].replace("<", "$<$")
        lines.append(
            " & ".join([name, *values, latex(translate(state_of(row.trial), lang))]) + r" \\"
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def table_md(summary: SweepSummary, lang: str = "en") -> str:
    """Return the same table in Markdown, the caption after it."""
    head = " | ".join(translate(name, lang) for name in HEAD)
    lines = [f"| {head} |", f"|---|{'---:|' * (len(HEAD) - 2)}---|"]
    for row in summary.rows:
        name = markdown(_name(row))
        name = f"**{name}**" if row is summary.winner else name
        values = cells(row, NOTHING, " ± ", "−")
        values[3] += "\\*" if row.verdict == "real" else ""
        values[4] = values[4].replace("<", "&lt;")
        lines.append(
            f"| {' | '.join([name, *values, markdown(translate(state_of(row.trial), lang))])} |"
        )
    return "\n".join([*lines, "", markdown(_caption(summary, lang)), ""])


def _caption(summary: SweepSummary, lang: str) -> str:
    """Return what the columns mean; it stands below the table in a paper."""
    clips = sorted({row.trial["clips"] for row in summary.rows if row.trial["clips"]})
    on = f" on {' or '.join(map(str, clips))} validation clips" if clips else ""
    parts = [
        f"{summary.sweep}: top-1 accuracy of each row at its best epoch{on}, with its "
        "standard error."
    ]
    if any(row.seeds for row in summary.rows):
        parts.append(
            "Mean and standard deviation are over n further seeds, without the reading that "
            "chose the variant."
        )
    if summary.winner is not None:
        parts.append(
            f"Differences are to {summary.winner.name} on the same clips; p is of McNemar's test "
            "after Holm's correction, and * marks p < 0.05."
        )
    else:
        parts.append("No trial is complete, so there is no winner.")
    apart = [row.name for row in summary.rows if row.trial.get("apart")]
    if apart:
        parts.append(
            f"Not comparable and not ranked, by another metric or on other clips: "
            f"{', '.join(apart)}."
        )
    return (" " if lang == "en" else "").join(translate(part, lang) for part in parts)


def _name(row: VariantRow) -> str:
    return f"{row.label} ({row.plan})" if row.plan else row.label


def _label(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)


def latex(text: str) -> str:
    """Return a text as LaTeX prints it; control characters are left out."""
    shown = "".join(c for c in text if c.isprintable())
    return "".join(_LATEX.get(c, c) for c in shown)


def markdown(text: str) -> str:
    """Return a text that Markdown prints as it stands, on one line, also in a cell."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return "".join(_MARKDOWN.get(c, c) for c in line)


_MARKDOWN = {
    **{character: f"\\{character}" for character in "\\`*_[]|#"},
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
}
