"""Output that survives any terminal: see also streams.py."""

import os
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from pipeline.report.status.layout import COMMANDS_GAP, wrapped

#: One line a row, however long, where no terminal says how wide it is.
UNBOUNDED = 10_000
#: Where a terminal says that it has no columns, and the fewest that are used.
USUAL, LEAST = 80, 20


class _ResultConsole(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command's own end, which is not a failure."""
        raise BrokenPipeError


def result_console() -> Console:
    """Return a console on stdout; in a pipe without COLUMNS its width has no bound."""
    console = _ResultConsole(highlight=False, markup=False, emoji=False)
    given = os.environ.get("COLUMNS", "")
    if not given.isdigit() or int(given) == 0:
        console.width = (console.width or USUAL) if console.is_terminal else UNBOUNDED
    elif int(given) < LEAST:
        console.width = LEAST
    return console


def print_lines(console: Console, lines: Iterable[str | Text], style: str = "") -> None:
    """Print lines; sentences are wrapped, a command is not broken, of several each has a line."""
    for line in lines:
        if isinstance(line, str) and COMMANDS_GAP in line.strip() and len(line) > console.width:
            print_lines(console, line.strip().split(COMMANDS_GAP), style)
            continue
        if isinstance(line, str) and "pcan " not in line and len(line) > console.width:
            print_lines(console, [Text(part, style) for part in wrapped(line, console.width)])
            continue
        console.print(Text(line, style) if isinstance(line, str) else line, soft_wrap=True)
