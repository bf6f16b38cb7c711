"""The config of an export: self-contained, movable, with the framework's own early stopping."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.job.torch_tools import run_tool
from pipeline.plan.sweep import Patience, Sweep

ROOT_VARIABLE = "PCAN_DATA_ROOT"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedConfig:
    """A config as it is used without a job, and what its use depends on.

    Args:
        text: of `config.py`.
        needs_pcan: its model or chain are pcan's, so pcan's package has to be importable.
        data_root: the folder in place of which `PCAN_DATA_ROOT` is read, None without one.
        paths: where the data of each loader lie.
    """

    text: str
    needs_pcan: bool
    data_root: str | None
    paths: Mapping[str, Sequence[str]]

    @property
    def unmoved(self) -> list[str]:
        """The loaders with data outside of `data_root`."""
        below = f"{self.data_root}/"
        return [
            name
            for name, paths in self.paths.items()
            if not all(f"{path}/".startswith(below) for path in paths)
        ]


def export_config(
    sweep: Sweep, root: Path, text: str, stop: tuple[str, Patience] | None, head: str
) -> ExportedConfig:
    """Return the config of an export, settled in the job's own environment.

    Args:
        text: the resolved config of the trial, without paths of this machine.
        stop: the metric and the patience that end a training.
        head: comment lines that stand on top.
    """
    early = None if stop is None else {"monitor": stop[0], **_stop(stop[1])}
    answer = run_tool("export_config", {"config": text, "stop": early}, sweep.job, root)
    moved, data_root = movable(answer["config"])
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    return ExportedConfig(
        text=f"{comment}\n{moved}",
        needs_pcan=bool(answer["pcan"]),
        data_root=data_root,
        paths=answer["paths"],
    )


def _stop(patience: Patience) -> dict[str, float]:
    return {"patience": patience.epochs, "min_delta": patience.min_delta}


def movable(text: str) -> tuple[str, str | None]:
    """Read the data's folder from an environment variable, with the old folder as default.

    Returns:
        The text, and the folder that is read so; None where the config does not have one. An
        expression is written instead of MMEngine's `{{$NAME:default}}`, which takes no spaces.
    """
    match = re.search(r"^data_root = (['\"])(.*)\1\n?", text, re.M)
    root = match.group(2).rstrip("/") if match is not None else ""
    if match is None or not root or "\\" in root:
        return text, None
    rest = text[: match.start()] + text[match.end() :]
    path = re.compile(rf"(['\"]){re.escape(root)}(/[^'\"\n]*)?\1")
    rest = path.sub(lambda m: f'data_root + "{m[2]}"' if m[2] else "data_root", rest)
    default = json.dumps(root, ensure_ascii=False)
    first = f'data_root = __import__("os").environ.get("{ROOT_VARIABLE}", {default})\n'
    return first + rest, root
