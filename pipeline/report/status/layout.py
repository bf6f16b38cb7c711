"""The trials of a sweep laid out for a terminal: a table, or a list where it is narrow.

Wide, what happened stands at the end of a trial's row; at 80 columns on lines of its own below it;
under `LIST_BELOW` each trial is a small paragraph. What a person has to type is never cut.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text

from pipeline.shared.counted import counted

#: Columns under which a table is not worth its lines.
LIST_BELOW = 72
#: The least room for what happened beside the other columns.
ROOM = 32
BLOCKS = "▁▂▃▄▅▆▇█"
#: The longest curve, in letters.
CURVE = 12
GAP = "  "
#: Between two commands on one line.
COMMANDS_GAP = "   "
#: Stands for a space at which no line ends; a private character, as textwrap breaks at others.
_NO_BREAK = "\ue000"
#: Columns of words, beside those that are placed "<".
LEFT = ("plan", "curve")

Row = Mapping[str, str]


def layout(
    rows: Sequence[Row], columns: Sequence[tuple[str, str, str]], width: int
) -> Iterator[Text]:
    """Yield the lines of a table.

    Args:
        rows: text by column id; `note` is what happened, `style` how the row is shown.
        columns: id, heading, and how it is placed: "<", ">", or "" where it may be left out first.
    """
    if width < LIST_BELOW:
        for row in rows:
            yield from _paragraph(row, width)
        return
    columns = [c for c in columns if any(row[c[0]] for row in rows) or c[2] == "<"]
    widths = _widths(rows, columns)
    taken = sum(widths.values()) + len(GAP) * len(columns)
    if taken + ROOM <= width:
        yield from _wide(rows, columns, widths, width - taken)
        return
    for name, _, place in reversed(columns):
        if taken - len(GAP) > width and not place:
            taken -= widths.pop(name) + len(GAP)
    if taken - len(GAP) > width:
        for row in rows:
            yield from _paragraph(row, width)
        return
    yield from _stacked(rows, [c for c in columns if c[0] in widths], widths, width)


def curve(values: Sequence[float | None], low: float, high: float) -> str:
    """Return a course as one letter an epoch, on a scale that the whole table shares."""
    known = [value for value in values if value is not None and value == value]
    if not known:
        return ""
    step = max(1.0, len(known) / CURVE)
    ends = [round((i + 1) * step) for i in range(min(CURVE, len(known)))]
    shown = [known[min(end, len(known)) - 1] for end in ends]
    span = (high - low) or 1.0
    last = len(BLOCKS) - 1
    return "".join(BLOCKS[max(0, min(last, round(last * (v - low) / span)))] for v in shown)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return prose in lines of a width; a word that is longer stays whole, "73.75 %" too."""
    lines = textwrap.wrap(
        text.replace(" %", f"{_NO_BREAK}%"),
        max(20, width),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _widths(rows: Sequence[Row], columns: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    return {
        name: max(cell_len(heading), *(cell_len(row[name]) for row in rows), 0)
        for name, heading, _ in columns
    }


def _wide(
    rows: Sequence[Row],
    columns: Sequence[tuple[str, str, str]],
    widths: Mapping[str, int],
    room: int,
) -> Iterator[Text]:
    head = {name: heading for name, heading, _ in columns}
    yield Text(_cells(head, columns, widths) + GAP + "what happened, what is next", "bold")
    margin = " " * (sum(widths.values()) + len(GAP) * len(columns))
    for row in rows:
        lines = wrapped(row["note"], room) or [""]
        yield Text(f"{_cells(row, columns, widths)}{GAP}{lines[0]}".rstrip(), row["style"])
        yield from (Text(margin + line, row["style"]) for line in lines[1:])


def _stacked(
    rows: Sequence[Row],
    columns: Sequence[tuple[str, str, str]],
    widths: Mapping[str, int],
    width: int,
) -> Iterator[Text]:
    head = {name: heading for name, heading, _ in columns}
    yield Text(_cells(head, columns, widths).rstrip(), "bold")
    for row in rows:
        yield Text(_cells(row, columns, widths).rstrip(), row["style"])
        yield from (Text(line, row["style"]) for line in wrapped(row["note"], width, "    "))


def _cells(row: Row, columns: Sequence[tuple[str, str, str]], widths: Mapping[str, int]) -> str:
    parts = []
    for name, _, place in columns:
        space = " " * (widths[name] - cell_len(row[name]))
        right = place != "<" and name not in LEFT
        parts.append(space + row[name] if right else row[name] + space)
    return GAP.join(parts)


def _paragraph(row: Row, width: int) -> Iterator[Text]:
    """Yield a trial as its name and state, its figures, and what happened."""
    plan = f" (plan {row['plan']})" if row["plan"] else ""
    yield Text(f"{row['trial']}{plan}  {row['state']}", row["style"])
    facts = [
        row["epochs"] and counted(int(row["epochs"]), "epoch"),
        f"best {row['best']}" if row["best"] else "",
        f"last {row['last']}" if row["last"] else "",
        row["curve"],
    ]
    figures = ", ".join(fact for fact in facts if fact)
    for text in (figures, row["note"]):
        yield from (Text(line, row["style"]) for line in wrapped(text, width, "  "))
