"""The cluster job that a launch runs in, as far as the launch uses it."""

from typing import Any, Protocol

from pipeline.launch.reporters import Reporter


class EnclosingJob(Protocol):
    """A job of a scheduler; `pipeline.cluster` implements it and the command passes it in."""

    @property
    def id(self) -> str:
        """The scheduler's name for it."""

    @property
    def warning_s(self) -> float:
        """How long before its time limit the scheduler sends SIGUSR1."""

    def requeue(self, epochs: int, reporter: Reporter) -> bool:
        """Have the job started again later, if it has finished epochs.

        Returns:
            Whether the scheduler now ends this process.
        """

    def record(self) -> dict[str, Any]:
        """Return what the trial's row keeps of it."""
