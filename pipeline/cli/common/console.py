"""Printing by rich: results in lines of any width, and a progress bar for long work."""

import os
import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console
from rich.text import Text

from pipeline.report.status.layout import COMMANDS_GAP, wrapped

#: One line a row, however long, where no terminal says how wide it is.
UNBOUNDED = 10_000
#: Where a terminal says that it has no columns, and the fewest that are used.
USUAL, LEAST = 80, 20
#: How often a progress bar is a line where there is no terminal.
SECONDS_BETWEEN_LINES = 60.0


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


class Bar:
    """A progress bar on stderr with the time left; without a terminal a line a minute.

    Args:
        text: what is being done, in a few words.
        shares: pieces are parts of the work, not things: they are shown in percent.
    """

    def __init__(self, text: str, shares: bool = False) -> None:
        from rich.progress import Progress  # `status` prints without one

        console = Console(stderr=True)
        self._text, self._console, self._shares = text, console, shares
        self._began = self._printed = time.monotonic()
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(text, total=None)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` pieces are done."""
        self._progress.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if self._console.is_terminal or now - self._printed < SECONDS_BETWEEN_LINES:
            return
        left = (now - self._began) / max(1, done) * (total - done)
        far = f"{100 * done // max(1, total)} %" if self._shares else f"{done} of {total}"
        self._console.print(f"{self._text}: {far}, about {left / 60:.0f} min left")
        self._printed = now
