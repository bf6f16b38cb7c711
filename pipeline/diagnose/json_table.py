"""Tables that programs write as JSON: a record an epoch, or a list of values a column.

DeiT, MAE     {"train_lr": .., "train_loss": .., "test_acc1": .., "epoch": 0}, a line an epoch
PyTorch       [{"epoch": 1, "train_loss": .., "val_acc": ..}, ..]
Transformers  {"log_history": [{"loss": .., "epoch": 0.03}, {"eval_accuracy": .., "epoch": 1.0}]}
Keras         {"loss": [..], "val_accuracy": [..]}: the nth value is of the nth epoch
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.diagnose.blocks import blocks
from pipeline.diagnose.csv_columns import columns_of
from pipeline.diagnose.csv_log import Table
from pipeline.diagnose.curve import LogRun
from pipeline.diagnose.fields import is_number, whole
from pipeline.errors import InputError

#: An object, or a list of some; "[2026-01-02 ..", as text logs begin, is neither.
_BEGINS = re.compile(rb"(?:\[\s*)?\{\s*\"")
#: A longer file is not a history of a training.
_LONGEST = 64 << 20

#: The line of a record (0: it has none of its own) and its numbers by name.
_Row = tuple[int, dict[str, Any]]


def is_json_table(first: bytes) -> bool:
    """Whether the file may be one: JSON, with a word of a training near its beginning."""
    start = first.lstrip()[: 64 << 10].lower()
    begins = _BEGINS.match(start) is not None
    return begins and any(word in start for word in (b"epoch", b"loss", b"acc"))


def json_table(path: Path) -> LogRun | None:
    """Read the file; None if it holds no table.

    Raises:
        InputError: it holds several tables, or validations that no epoch ends with.
    """
    data = bytearray()
    for block in blocks(path):
        data += block.data
        if len(data) > _LONGEST:
            return None
    notes: list[str] = []
    rows = _rows_of_file(data.decode("utf-8", "replace"), path, notes)
    if not rows:
        return None
    names = list(dict.fromkeys(name for _, row in rows for name in row if name != "epoch"))
    columns = columns_of([*names, "epoch"])
    table = Table(columns)
    for note in notes:
        table.run.note(note)
    for line, row in rows:
        epoch = row["epoch"]
        if epoch != int(epoch) and any(name in row for name in (*columns.metrics, *columns.tests)):
            raise InputError(
                f"{path} validates between its epochs (at epoch {epoch:g}), so its validations "
                "have no epoch. Write them as a table: epoch,top1[,lr] (CSV), numbered 1, 2, 3."
            )
        cells = {name: str(row[name]) if name in row else "" for name in columns.names}
        table.add_cells({**cells, "epoch": str(math.ceil(epoch))}, line)
    return table.finish()


def _rows_of_file(text: str, path: Path, notes: list[str]) -> list[_Row]:
    try:
        return _rows(json.loads(text), path, notes)
    except (ValueError, RecursionError):
        pass
    rows = [(number, _record(line)) for number, line in enumerate(text.split("\n"), 1)]
    return [(number, row) for number, row in rows if row]


def _record(line: str) -> dict[str, Any]:
    try:
        return _numbers(json.loads(line)) if line.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}


def _rows(value: Any, path: Path, notes: list[str]) -> list[_Row]:
    """Return the rows of a value that was read from JSON; empty if it is no table."""
    if isinstance(value, list):
        return [(0, row) for row in map(_numbers, value) if row]
    if not isinstance(value, Mapping):
        return []
    if rows := _of_lists(value, notes):
        return rows
    tables = {name: rows for name, part in value.items() if (rows := _rows(part, path, notes))}
    if len(tables) > 1:
        raise InputError(
            f"{path} holds {len(tables)} tables ({', '.join(list(tables)[:6])}), not one of one "
            "training. Write each to a file of its own."
        )
    single = _numbers(value)
    return next(iter(tables.values()), [(0, single)] if single else [])


def _numbers(record: Any) -> dict[str, Any]:
    """Return the numbers of a record of an epoch; empty if it is none."""
    if not isinstance(record, Mapping) or not is_number(record.get("epoch")):
        return {}
    epoch = record["epoch"]
    if not math.isfinite(epoch) or epoch < 0:
        return {}
    found = {str(name): value for name, value in record.items() if is_number(value)}
    return found if len(found) > 1 else {}


def _of_lists(value: Mapping[str, Any], notes: list[str]) -> list[_Row]:
    """Return the rows of columns; one that is not as long as most are is left out."""
    lists = {
        str(name): column
        for name, column in value.items()
        if isinstance(column, list) and column and all(map(_is_cell, column))
    }
    if len(lists) < 2:
        return []
    lengths = [len(column) for column in lists.values()]
    length = max(lengths, key=lambda one: (lengths.count(one), one))
    other = [name for name, column in lists.items() if len(column) != length]
    if other:
        notes.append(f"{', '.join(other[:6])} of another length than the rest; left out")
    kept = {name: column for name, column in lists.items() if name not in other}
    counted = next((kept.pop(name) for name in ("epoch", "epochs") if name in kept), None)
    if not kept or (counted and not all(whole(epoch, least=0) is not None for epoch in counted)):
        return []
    epochs = counted or list(range(1, length + 1))
    return [
        (0, {"epoch": epoch, **{name: kept[name][i] for name in kept if is_number(kept[name][i])}})
        for i, epoch in enumerate(epochs)
    ]


def _is_cell(value: Any) -> bool:
    return value is None or is_number(value)
