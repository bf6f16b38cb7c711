"""A table of `epoch,top1[,lr][,..]`, as a person, a spreadsheet or another program writes it.

The header line is required: without it a file that lost its first lines could pair a
value with the tail of another number.
"""

import csv
import re
from pathlib import Path

from pipeline.diagnose.blocks import blocks
from pipeline.diagnose.csv_columns import KNOWN, Columns
from pipeline.diagnose.curve import Evaluation, LogRun, in_line

_TOP1 = re.compile(r"top[-_]?1(?!\d)|acc", re.IGNORECASE)


def csv_run(path: Path, columns: Columns) -> LogRun:
    """Read the table; a damaged or incomplete row is left out and noted."""
    table, seen_header = Table(columns), False
    for block in blocks(path):
        text = block.data.decode("utf-8", "replace")
        for number, line in enumerate(text.split("\n"), block.line):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not seen_header:
                seen_header = True
            elif not block.complete:
                table.run.note(
                    f"line {number} has no newline at its end, so it may be cut; left out"
                )
            else:
                table.add(line, number)
    return table.finish()


class Table:
    """Collects the rows of a table as a run."""

    def __init__(self, columns: Columns) -> None:
        self.run = LogRun()
        self._columns = columns
        #: The rate in a row without an epoch: Lightning's monitor writes one before the next row.
        self._rate: float | None = None
        #: The step of the latest validation by epoch, and the (epoch, step, line) of tests.
        self._steps: dict[int, float | None] = {}
        self._tests: list[tuple[int, float | None, int, dict[str, float]]] = []
        self._trained: set[int] = set()
        self._rows = 0

    def add(self, line: str, number: int) -> None:
        """Add a row; `number` is its line in the file."""
        row = self._row(line, number)
        if row is not None:
            self.add_cells(row, number)

    def add_cells(self, row: dict[str, str], number: int) -> None:
        """Add a row by its columns, all of them; a cell without a value is empty."""
        columns = self._columns
        if list(row) == list(row.values()):
            return  # a second start wrote the header again
        written = row.pop(columns.epoch)
        values = self._numbers(row, number)
        lr, step = values.get(columns.lr), values.get("step")
        if not written and "step" in columns.names:
            self._rate = lr if lr is not None else self._rate
            return
        epoch = _epoch(written)
        if epoch is None:
            self.run.note(
                f"line {number}: epoch is {written!r}, not the number of an epoch; left out"
            )
            return
        self._rows += 1
        rate, self._rate = lr if lr is not None else self._rate, None
        loss, top1 = values.get(columns.loss), values.get(columns.train_top1)
        if (loss, top1) != (None, None):
            self._trained.add(epoch)
        self.run.train(epoch, rate, loss, number, top1)
        metrics = {name: values[name] for name in columns.metrics if name in values}
        if metrics:
            self._steps[epoch] = step
        self.run.validate(epoch, metrics, number)
        if tested := {name: values[name] for name in columns.tests if name in values}:
            self._tests.append((epoch, step, number, tested))

    def finish(self) -> LogRun:
        """Return the run, its epochs counted from 1."""
        run = self.run
        self._leave_out_tests()
        first = self._steps.get(0)
        if run.began_at_zero or (run.has(0) and first is not None and first > 0):
            run.count_from_one()
        return run

    def _leave_out_tests(self) -> None:
        """Take the rows of a test after training for what they are."""
        run = self.run
        if self._tests and not self._trained and not self._steps:
            _, _, _, result = self._tests[-1]
            run.clear()
            run.facts.test = Evaluation(done=0, total=0, metrics=result)
            return
        for epoch, step, number, result in self._tests:
            after = epoch not in self._trained and any(e < epoch for e in self._trained)
            if after and self._steps.get(epoch, step) == step and run.has(epoch):
                run.leave_out(epoch)
                run.note(
                    f"epoch {epoch}{in_line(number)} is a test after the training, by its "
                    f"{next(iter(result))}; left out"
                )

    def _row(self, line: str, number: int) -> dict[str, str] | None:
        delimiter, names = self._columns.delimiter, self._columns.names
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:
            cells = []
        if len(cells) != len(names):
            self.run.note(f"line {number} has {len(cells)} cells, not {len(names)}; left out")
            return None
        return dict(zip(names, cells, strict=True))

    def _numbers(self, row: dict[str, str], number: int) -> dict[str | None, float]:
        """Return the cells that are numbers by column; a metric that is not one is noted."""
        values: dict[str | None, float] = {}
        for name, cell in row.items():
            value = _number(cell if self._columns.delimiter == "," else cell.replace(",", "."))
            if value is not None:
                values[name] = value
            elif cell and (name in KNOWN or _TOP1.search(name)):
                self.run.note(f"line {number}: {name} is {cell!r}, not a number; left out")
        return values


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
