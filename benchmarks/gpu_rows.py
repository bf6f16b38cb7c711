"""What the sections of `benchmarks/gpu.py` share: their arguments, and the rows they write."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Section:
    """One section at work.

    Args:
        device: "cuda" or "cpu".
        folder: an empty one of its own.
        small: whether to take small numbers, to see that it runs.
    """

    def __init__(self, device: str, folder: Path, small: bool) -> None:
        self.device, self.folder, self.small = device, folder, small

    def row(
        self, what: str, value: Any, unit: str = "", ratio: float | None = None, of: str = ""
    ) -> None:
        """Write a figure down at once: a section may be ended before it is done.

        Args:
            ratio: how many times the figure of the row that `of` names this is.
        """
        record = {"what": what, "value": value, "unit": unit}
        if ratio is not None:
            record.update(ratio=ratio, of=of)
        with open(self.folder / "rows.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def carry_out(sections: Mapping[str, Callable[[Section], None]]) -> None:
    """Run the section that the command line names: NAME DEVICE FOLDER [small]."""
    name, device, folder, *rest = sys.argv[1:]
    sections[name](Section(device, Path(folder), rest == ["small"]))
