"""`wandb.yaml`: a sweep file of W&B, from which pcan reads where runs go and by what metric."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.errors import InputError
from pipeline.track.run_payload import WandbTarget

#: Top-level keys of W&B's published sweep schema (sweeps 0.3.0); it refuses any other.
SWEEP_KEYS = frozenset(
    "apiVersion kind controller description program job image_uri entity project method command "
    "name run_cap metric metrics scheduler early_terminate parameters".split()
)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What W&B's controller looks at."""

    name: str
    goal: str
    target: float | None


def read_project(file: Path) -> tuple[WandbTarget, Metric | None]:
    """Return where runs go, and the metric, as a sweep file says.

    Raises:
        InputError: the file is no W&B sweep file.
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
        raise InputError(f"{file} is no W&B sweep file: its top level is not a mapping.")
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
            f"{file}: {key} is {value[:40]!r}, which W&B takes for no name: up to 128 characters "
            "and none of / \\ # ? % :"
        )
    return value


def _metric(value: object, file: Path) -> Metric | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise InputError(f"{file}: metric needs a name, a goal and, if wanted, a target.")
    target = value.get("target")
    if isinstance(target, bool) or not isinstance(target, int | float | None):
        raise InputError(f"{file}: metric.target is {target!r}, not a number.")
    return Metric(
        name=value["name"],
        goal=str(value.get("goal", "minimize")),
        target=None if target is None else float(target),
    )
