"""A table of `epoch,top1[,lr][,..]`, as a person or a spreadsheet writes it.

The header line is required: without it a file that lost its first lines could pair a
value with the tail of another number.
"""

import csv
from pathlib import Path

from pipeline.diagnose.blocks import blocks
from pipeline.diagnose.curve import LogRun

_KNOWN = frozenset({"epoch", "lr", "loss", "top1", "rgb_top1", "pose_top1"})
_DELIMITERS = (",", ";", "\t")


def csv_columns(first_lines: bytes) -> tuple[str, list[str]] | None:
    """Return (delimiter, column names) if the first line after comments is such a header."""
    for line in first_lines.decode("utf-8", "replace").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        for delimiter in _DELIMITERS:
            names = [_name(cell.strip().strip('"')) for cell in line.split(delimiter)]
            if len(names) >= 2 and names.count("epoch") == 1 and len(set(names)) == len(names):
                return delimiter, names
        return None
    return None


def csv_run(path: Path, delimiter: str, names: list[str]) -> LogRun:
    """Read the table; a damaged or incomplete row is left out and noted."""
    run, seen_header = LogRun(), False
    for block in blocks(path):
        text = block.data.decode("utf-8", "replace")
        for number, line in enumerate(text.split("\n"), block.line):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not seen_header:
                seen_header = True
            elif not block.complete:
                run.note(f"line {number} has no newline at its end, so it may be cut; left out")
            else:
                _add_row(run, line, delimiter, names, number)
    return run


def _add_row(run: LogRun, line: str, delimiter: str, names: list[str], number: int) -> None:
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        cells = []
    if len(cells) != len(names):
        run.note(f"line {number} has {len(cells)} cells, not {len(names)}; left out")
        return
    row = dict(zip(names, cells, strict=True))
    epoch = row.pop("epoch")
    if not epoch.isascii() or not epoch.isdigit() or len(epoch) > 9:
        run.note(f"line {number}: epoch is {epoch!r}, not a whole number; left out")
        return
    values = {name: value for name, cell in row.items() if (value := _number(cell)) is not None}
    run.train(int(epoch), values.pop("lr", None), values.pop("loss", None), number)
    run.validate(int(epoch), values, number)


def _name(cell: str) -> str:
    """Return a column's name as written; the known ones in lower case."""
    return cell.lower() if cell.lower() in _KNOWN else cell


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None
