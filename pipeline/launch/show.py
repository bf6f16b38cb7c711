"""What the user sees of a launch: the interface that `cli/show.py` fills."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.launch.attempt import Attempt


class Show(Protocol):
    """Lines that stay, and a picture of the running jobs."""

    def line(self, text: str) -> None:
        """Print one line that stays."""

    def live(self, attempts: Sequence[Attempt]) -> None:
        """Refresh the picture of the running jobs."""
