"""The table of `pcan sweep refine` in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.plan.verdict import percent, shown_reading
from pipeline.report.best.text import line_name
from pipeline.report.stats.differences import p_is, shown_p
from pipeline.shared.counted import counted

_HEAD = ("line", "top-1", "against plain", "p", "passes", "what")


def table_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the table, what was chosen and why, what could not be tried."""
    shown = [_row(line) for line in record["lines"]]
    widths = [max(len(row[i]) for row in [_HEAD, *shown]) for i in range(len(_HEAD) - 1)]
    lines = [_joined(row, widths) for row in (_HEAD, *shown)]
    lines += ["", sentence(record)]
    lines.append(
        f"Read crosswise on {counted(record['clips'], 'clip')}, cut by {record['cut_by']}; "
        f"{counted(record['tried'], 'setting')} tried. p of a line alone; the choice among them "
        "is read crosswise too."
    )
    lines += [f"Not tried: {one['name']}: {one['reason']}." for one in record["unavailable"]]
    lines += [f"Left out of {o['line']}: {o['trial']}: {o['reason']}." for o in record["left_out"]]
    test = record["test"]
    if test is not None:
        lines.append(test_sentence(test))
    return lines


def sentence(record: Mapping[str, Any]) -> str:
    """Return what the choice of a line is worth."""
    choice, best = record["selection"], record["lines"][record["best_line"]]
    points = (
        f"{100 * choice['difference']:+.2f} ± {100 * choice['difference_std_error']:.2f} points"
    )
    if record["better"]:
        return (
            f"Chosen: {line_name(best)}. Choosing a line reads {percent(choice['top1'])} on clips "
            f"that had no part in the choice, {points} against the plain winner "
            f"(McNemar, {p_is(choice['p'])})."
        )
    if record["best_line"] == 0:
        return "Nothing reads better than the plain winner: that is what is exported."
    return (
        f"No refinement is better beyond noise: {line_name(best)} reads best, but choosing a line "
        f"reads {points} (McNemar, {p_is(choice['p'])}). The plain winner is exported."
    )


def test_sentence(test: Mapping[str, Any]) -> str:
    """Return what the test split has said."""
    nth = "" if test["reading"] == 1 else f" (reading {test['reading']})"
    return (
        f"On the test split{nth}: {shown_reading(test['top1'], test['std_error'])}, plain "
        f"{percent(test['plain_top1'])}, difference {100 * test['difference']:+.2f} ± "
        f"{100 * test['difference_std_error']:.2f} points ({p_is(test['p'])})."
    )


def _row(line: Mapping[str, Any]) -> tuple[str, ...]:
    passes = counted(line["passes"], "pass", "passes")
    models = "" if line["one_model"] else ", several models"
    moved = f"{100 * line['difference']:+.2f} ± {100 * line['difference_std_error']:.2f}"
    return (
        line_name(line),
        shown_reading(line["top1"], line["std_error"]),
        "" if line["name"] == "plain" else moved,
        "" if line["name"] == "plain" else shown_p(line["p"]),
        f"{passes}{models}",
        line["detail"],
    )


def _joined(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
    return "  ".join([*cells, row[-1]]).rstrip()
