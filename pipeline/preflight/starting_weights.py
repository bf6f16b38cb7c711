"""Starting weights that a sweep makes itself: `warm_start.make`.

The demo has no checkpoint to begin from, so a variant of its own trains one; its best weights are
put where the others look for them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import NotReady
from pipeline.job.torch_tools import run_tool
from pipeline.launch.workdir import run_dir
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.shared.files import read_json
from pipeline.study.trial_rows import TrialRow


def missing_checkpoints(sweep: Sweep, project: Project, variants: Sequence[str]) -> list[str]:
    """Return a sentence for each starting checkpoint that is absent and that nothing makes."""
    found: dict[str, str] = {}
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is None or start.make is not None:
            continue
        if (project.root / start.checkpoint).is_file() or start.checkpoint in found:
            continue
        where = sweep.where("variants", name, "warm_start", "checkpoint")
        if ("variants", name, "warm_start") not in sweep.lines:
            where = sweep.where("warm_start", "checkpoint")
        cold = [n for n, v in sweep.variants.items() if v.warm_start is None]
        without = f", or train without one: --variant {cold[0]}" if cold else ""
        found[start.checkpoint] = (
            f"The checkpoint to start from is missing: {start.checkpoint} ({where}). Put it "
            f"there, correct that path{without}"
        )
    return list(found.values())


def checksum_mismatches(sweep: Sweep, project: Project, variants: Sequence[str]) -> list[str]:
    """Return a sentence for each starting checkpoint that is not the one the sweep file names."""
    starts = {sweep.variants[name].warm_start for name in variants}
    wanted = {s.checkpoint: s.sha256 for s in starts if s is not None and s.sha256 is not None}
    found = []
    for name, digest in sorted(wanted.items()):
        path = project.root / name
        if not path.is_file():
            continue
        with open(path, "rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != digest:
            found.append(
                f"{name} is another file than the sweep names: its SHA-256 is {actual[:12]}..., "
                f"warm_start.sha256 is {digest[:12]}.... Put the right file there, or correct "
                f"warm_start.sha256 in {sweep.shown_path}."
            )
    return found


def publish_made_weights(
    sweep: Sweep, project: Project, rows: Sequence[TrialRow], variants: Sequence[str]
) -> list[str]:
    """Write the weights that makers have trained to where their users look for them.

    Returns:
        One line for each file written.
    """
    lines = []
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is None or start.make is None:
            continue
        target = project.root / start.checkpoint
        done = [r for r in rows if r.variant == start.make and r.state == "COMPLETE"]
        if not done or target.is_file():
            continue
        source = _best_checkpoint(project, sweep, done[-1])
        target.parent.mkdir(parents=True, exist_ok=True)
        request = {"checkpoint": str(source), "out": str(target)}
        run_tool("export_weights", request, sweep.job, project.cache, project.root)
        top1 = 100 * (done[-1].best_top1 or 0.0)
        lines.append(
            f"Starting weights: {relative(target, project.root)}, from {done[-1].name} "
            f"({top1:.2f} % at epoch {done[-1].best_epoch})"
        )
    return lines


def _best_checkpoint(project: Project, sweep: Sweep, row: TrialRow) -> Path:
    rundir = run_dir(project, sweep.name, row.variant, row.number)
    name = (read_json(rundir.outcome) or {}).get("checkpoint")
    if name is None or not (rundir.root / name).is_file():
        raise NotReady(
            f"{row.name} made the starting weights, but its best checkpoint is gone from "
            f"{relative(rundir.checkpoints, project.root)}. Make it again in a new storage, or "
            "put the weights there."
        )
    return rundir.root / str(name)
