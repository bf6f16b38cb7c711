"""A table of `epoch,top1[,lr][,..]`, as a person or a spreadsheet writes it.

The header line is required: without it a file that lost its first lines could pair a
value with the tail of another number.
"""

import csv
import re
from pathlib import Path

from pipeline.diagnose.blocks import blocks
from pipeline.diagnose.curve import LogRun
from pipeline.diagnose.fields import NOT_METRICS

_KNOWN = frozenset({"epoch", "lr", "loss", "top1", "rgb_top1", "pose_top1"})
_DELIMITERS = (",", ";", "\t")
_TOP1 = re.compile(r"top[-_]?1(?!\d)|acc", re.IGNORECASE)
#: What timm, Lightning, Keras and spreadsheets call the rate and the training's loss.
_TRAINING = {
    "lr": re.compile(r"lr|learning[_ ]?rate|lr[-/]\S+", re.IGNORECASE),
    "loss": re.compile(r"loss|train[-_/ ]?loss(?:_epoch)?", re.IGNORECASE),
}
_TRAIN_ACCURACY = re.compile(r"acc(?:uracy)?|train[-_/ ]?(?:acc(?:uracy)?|top[-_]?1)", re.I)
_VALIDATED = re.compile(r"(?:val|eval|valid|validation)[-_/ ]", re.IGNORECASE)


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
    if run.began_at_zero:
        run.count_from_one()
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
    epoch = _epoch(written := row.pop("epoch"))
    if epoch is None:
        run.note(f"line {number}: epoch is {written!r}, not the number of an epoch; left out")
        return
    values = {}
    for name, cell in row.items():
        value = _number(cell if delimiter == "," else cell.replace(",", "."))
        if value is not None:
            values[name] = value
        elif cell and (name in _KNOWN or _TOP1.search(name)):
            run.note(f"line {number}: {name} is {cell!r}, not a number; left out")
    training = {kind: values.pop(name, None) for kind, name in _training_columns(names).items()}
    run.train(epoch, training.get("lr"), training.get("loss"), number, training.get("top1"))
    run.validate(epoch, {k: v for k, v in values.items() if k not in NOT_METRICS}, number)


def _training_columns(names: list[str]) -> dict[str, str]:
    """Return which column holds the rate, the training's loss and its accuracy."""
    found = {
        kind: match
        for kind, pattern in _TRAINING.items()
        if (match := next((name for name in names if pattern.fullmatch(name)), None))
    }
    accuracy = next((name for name in names if _TRAIN_ACCURACY.fullmatch(name)), None)
    if accuracy and any(_VALIDATED.match(name) for name in names):
        # Keras names the training's accuracy `accuracy` beside `val_accuracy`.
        found["top1"] = accuracy
    return found


def _name(cell: str) -> str:
    """Return a column's name as written; the known ones in lower case."""
    return cell.lower() if cell.lower() in _KNOWN else cell


def _epoch(cell: str) -> int | None:
    """Return the number of an epoch, also of one that a program wrote as 3.0."""
    digits = cell.removesuffix(".0")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else None


def _number(cell: str) -> float | None:
    """Return a cell's number; 61.2% is 0.612."""
    try:
        if cell.endswith("%"):
            return float(cell[:-1]) / 100
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None
