"""How a command's `--wandb` becomes a mirror and a trial's record."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from pipeline.plan.project import MARK, Project
from pipeline.track.mirror import Mirror, start_mirror
from pipeline.track.run_payload import WandbTarget
from pipeline.track.wandb_server import key_present
from pipeline.track.wandb_yaml import read_project


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where a sweep's runs go in W&B, and how."""

    mode: str
    group: str
    target: WandbTarget

    @classmethod
    def of(cls, project: Project, sweep: str, mode: str) -> "Tracking":
        """Read the project's `wandb.yaml`."""
        target, _ = read_project(project.root / MARK)
        return cls(mode=mode, group=sweep, target=target)

    def spec(self) -> dict[str, str | None]:
        """Return the part of a trial's spec that names its run."""
        return {
            "mode": self.mode,
            "project": self.target.project,
            "entity": self.target.entity,
            "group": self.group,
        }

    @property
    def mirror(self) -> Callable[[Path], Mirror] | None:
        """What starts the mirror, None where W&B is told nothing."""
        return None if self.mode == "disabled" else self.start

    def start(self, folder: Path) -> Mirror:
        """Start the mirror of `runs/<sweep>`."""
        return start_mirror(folder, self.mode, self.target.project, self.target.entity)

    def hints(self) -> list[str]:
        """Return what to say about W&B before a launch."""
        if self.mode == "offline" and key_present():
            return ["W&B: written offline. A key is here; to send while it trains: --wandb live"]
        return []
