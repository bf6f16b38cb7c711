"""Where W&B runs go, and how: `wandb.yaml`, the option `--wandb`, or a `wandb agent`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.errors import InputError
from pipeline.plan.project import MARK, Project
from pipeline.track.mirror import Mirror, start_mirror
from pipeline.track.run_payload import WandbTarget
from pipeline.track.wandb_server import key_present

#: Top-level keys of W&B's published sweep schema (sweeps 0.3.0); it refuses any other.
SWEEP_KEYS = frozenset(
    {
        *("apiVersion", "kind", "controller", "description", "program", "job", "image_uri"),
        *("entity", "project", "method", "command", "name", "run_cap", "metric", "metrics"),
        *("scheduler", "early_terminate", "parameters"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where a sweep's runs go in W&B, and in which mode."""

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
        """What starts the mirror, None where nothing is sent to W&B or written for it."""
        return None if self.mode == "disabled" else self.start

    def start(self, folder: Path) -> Mirror:
        """Start the mirror of `runs/<sweep>`."""
        return start_mirror(folder, self.mode, self.target.project, self.target.entity)

    def hints(self) -> list[str]:
        """Return lines about W&B to print before a launch."""
        if self.mode == "offline" and key_present():
            return ["W&B: written offline. A key is here; to send while it trains: --wandb live"]
        return []


@dataclass(frozen=True, kw_only=True)
class AgentRun:
    """The W&B run that an agent has opened for this process.

    Under `wandb agent` W&B's controller chooses the variant: the agent starts one `pcan train` a
    run, with these variables; the run it made online is the one to write to, and its parameters
    arrive as `--variant=...` through `command` in wandb.yaml.
    """

    sweep_id: str
    run_id: str
    project: str | None
    entity: str | None

    def spec(self, group: str) -> dict[str, str | None]:
        """Return the `wandb` part of spec.json, for a mirror in the mode "live"."""
        return {
            "id": self.run_id,
            "project": self.project,
            "entity": self.entity,
            "group": group,
            "sweep": self.sweep_id,
        }


def agent_run(environment: Mapping[str, str] = os.environ) -> AgentRun | None:
    """Return the agent's run, or None when no agent started this process."""
    sweep_id, run_id = environment.get("WANDB_SWEEP_ID"), environment.get("WANDB_RUN_ID")
    if not sweep_id or not run_id:
        return None
    return AgentRun(
        sweep_id=sweep_id.rsplit("/", 1)[-1],
        run_id=run_id,
        project=environment.get("WANDB_PROJECT"),
        entity=environment.get("WANDB_ENTITY"),
    )


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric that W&B's controller optimises."""

    name: str
    goal: str
    target: float | None


def read_project(file: Path) -> tuple[WandbTarget, Metric | None]:
    """Return where runs go, and the metric, from a sweep file of W&B.

    Raises:
        InputError: the file is not a W&B sweep file.
    """
    try:
        record = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return WandbTarget(), None
    except RecursionError:
        raise InputError(f"{file} cannot be read as YAML (nested too deeply).") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read as YAML ({problem}).") from None
    if not isinstance(record, dict):
        raise InputError(f"{file} is not a W&B sweep file: its top level is not a mapping.")
    unknown = sorted(set(map(str, record)) - SWEEP_KEYS)
    if unknown:
        raise InputError(
            f'{file} has the key "{unknown[0]}", which W&B refuses in a sweep file. '
            "Gates and variants belong into sweeps/*.yaml."
        )
    target = WandbTarget(
        project=_name(record.get("project"), file, "project"),
        entity=_name(record.get("entity"), file, "entity"),
    )
    return target, _metric(record.get("metric"), file)


def _name(value: object, file: Path, key: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InputError(f"{file}: {key} is {value!r}, not a name. Put it into quotes.")
    if len(value) > 128 or not value.isprintable() or set(value) & set("/\\#?%:"):
        raise InputError(
            f"{file}: {key} is {value[:40]!r}, which W&B does not accept as a name: up to "
            "128 characters and none of / \\ # ? % :"
        )
    return value


def _metric(value: object, file: Path) -> Metric | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise InputError(f"{file}: metric needs a name and a goal; a target is optional.")
    target = value.get("target")
    if isinstance(target, bool) or not isinstance(target, int | float | None):
        raise InputError(f"{file}: metric.target is {target!r}, not a number.")
    return Metric(
        name=value["name"],
        goal=str(value.get("goal", "minimize")),
        target=None if target is None else float(target),
    )
