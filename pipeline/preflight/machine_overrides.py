"""Machine settings of a launch, `--set`: where the data lies and how many workers load it.

They change a trial's config but not its recipe. Whatever changes the science belongs in the sweep
file, so `--set` takes only the keys below.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.errors import InputError, NotReady
from pipeline.job.resolve import data_root_of, reroot
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep

#: The shipped sweep whose data pcan draws itself.
DEMO = "demo"
DATA_ROOT = "data_root"
#: A config path with one of these parts is a machine setting.
_MACHINE_KEYS = (
    "num_workers",
    "persistent_workers",
    "prefetch_factor",
    "pin_memory",
    "ann_file",
    "data_prefix",
    "env_cfg",
)


def parse_sets(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse `--set KEY=VALUE`.

    Raises:
        InputError: no `=`, or a key that is not a machine setting.
    """
    sets: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise InputError(
                f'--set "{pair}" has no KEY=VALUE. Example: --set data_root=/data/ntu'
            )
        parts = key.split(".")
        if key != DATA_ROOT and not any(part in _MACHINE_KEYS for part in parts):
            allowed = ", ".join((DATA_ROOT, *_MACHINE_KEYS))
            raise InputError(
                f"--set takes machine settings only ({allowed}); {key} is not one. A value that "
                "changes the science belongs in the sweep file, where it is recorded."
            )
        if key == DATA_ROOT and not text.strip():
            raise InputError("--set data_root has no folder. Example: --set data_root=/data/ntu")
        sets[key] = _value(pair, text) if key != DATA_ROOT else text
    return sets


def _value(pair: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(
            f'--set "{pair}": "{text}" cannot be read as a value. Put text with special '
            "characters in quotes."
        ) from None


def data_root(sweep: Sweep, project: Project, sets: Mapping[str, Any]) -> str | None:
    """Return the folder of the data, None to keep the config's own.

    Raises:
        NotReady: the sweep file names an environment variable that is not set, or the folder
            is missing.
    """
    given = sets.get(DATA_ROOT)
    source = "--set data_root"
    if given is None:
        if sweep.data.root is None:
            return None
        given, source = sweep.data.root, sweep.where("data", "root")
    text = re.sub(r"^\$(\w+)", lambda m: _variable(m.group(1), source), str(given))
    path = project.root / os.path.expanduser(text)
    if not path.is_dir():
        made = f"   Or make the drawn set: pcan data demo {given}" if sweep.name == DEMO else ""
        what = "Correct it." if DATA_ROOT in sets else "Say where: --set data_root=DIR"
        raise NotReady(f"There is no data folder {path} ({source}). {what}{made}")
    return os.path.expanduser(text)


def missing_data_hint(
    sets: Mapping[str, Any], root: str | None, text: str, file: str = "", key: str = ""
) -> str:
    """Return what to do about data that are missing; nothing that was done already.

    Args:
        root: the data folder of this machine, None where nothing names one.
        text: the config that names the data.
        file: the path that the config names; "" if it lies below `data_root`.
        key: the config path that names it.
    """
    own = (data_root_of(text) or "").rstrip("/")
    if file and key in sets:
        return f"Put it there, or correct --set {key}."
    if file and own and not file.startswith(f"{own}/"):
        return f"Put it there, or give its path: --set {key}=FILE (it is not below data_root)."
    if DATA_ROOT in sets:
        return "Put it there, or correct --set data_root."
    if root is not None:
        return "Put it there, or correct data.root in the sweep file."
    if data_root_of(text) is not None:
        return "Put it there, or say where the data lies: --set data_root=DIR"
    return (
        f"Put it there, or give its path: --set {key or 'train_dataloader.dataset.ann_file'}=FILE "
        "(the config has no variable data_root that could be moved)"
    )


def apply_data_root(text: str, root: str | None) -> str:
    """Return a resolved config with its paths below another data root."""
    if root is None:
        return text
    old = data_root_of(text)
    if old is None:
        raise InputError(
            "The base config has no variable `data_root`, so --set data_root has nothing to "
            "move. Set the paths themselves: --set train_dataloader.dataset.ann_file=..."
        )
    return reroot(text, old, root)


def _variable(name: str, source: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise NotReady(
            f"{source} begins with ${name}, which is not set. Run: export {name}=FOLDER, or say "
            "where the data lies: --set data_root=DIR"
        )
    return value
