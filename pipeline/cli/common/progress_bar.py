"""A progress line on stderr with the time left; without a terminal, a line a minute."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 60.0


class Bar:
    """A progress bar of a long piece of work.

    Args:
        text: what is being done, in a few words.
        shares: pieces are parts of the work, not things: they are shown in percent.
    """

    def __init__(self, text: str, shares: bool = False) -> None:
        console = Console(stderr=True)
        self._text, self._console, self._shares = text, console, shares
        self._began = self._printed = time.monotonic()
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID = self._progress.add_task(text, total=None)

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
