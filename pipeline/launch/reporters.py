"""What the user sees of a launch: the interface that `cli/show.py` fills."""

from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.launch.trial_runner import TrialRunner


class Show(Protocol):
    """Lines that stay, and a picture of the running jobs."""

    def line(self, text: str) -> None:
        """Print one line that stays."""

    def live(self, attempts: Sequence[TrialRunner]) -> None:
        """Refresh the picture of the running jobs."""


class Once:
    """Says a line, unless it is the one that was said last."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._say(text)
            self._last = text
