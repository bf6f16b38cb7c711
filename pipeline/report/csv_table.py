"""Records as CSV for a spreadsheet: RFC 4180, numbers in full, no text that a sheet would run."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

#: A cell that begins with one of these is a formula to a spreadsheet, full width in Chinese ones.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> str:
    """Return rows as CSV with a head line.

    Args:
        columns: stand first, also where no row has them; other keys follow in their order.
    """
    listed = [flat(row) for row in rows]
    names = list(dict.fromkeys([*columns, *(key for row in listed for key in row)]))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([cell(name) for name in names])
    writer.writerows([cell(row.get(name)) for name in names] for row in listed)
    return stream.getvalue()


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose nested records are columns of their own, "params lr"."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{key} {name}": inner for name, inner in flat(value).items()}
        else:
            found[str(key)] = value
    return found


def cell(value: Any) -> str:
    """Return a value as a cell; "" where nothing is known.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"'{text}" if text.startswith(_FORMULA) else text
