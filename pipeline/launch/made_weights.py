"""Starting weights that a sweep makes itself: `warm_start.make`.

Where there is no checkpoint to begin from, a variant of its own trains one; its best weights are
written where the other variants look for them.
"""

from collections.abc import Sequence

from pipeline.job.torch_tools import run_tool
from pipeline.launch.starting_weights import best_checkpoint
from pipeline.plan.project import Project, relative
from pipeline.plan.sweep import Sweep
from pipeline.shared.states import State
from pipeline.study.trial_rows import TrialRow


def publish_made_weights(
    sweep: Sweep, project: Project, rows: Sequence[TrialRow], variants: Sequence[str]
) -> list[str]:
    """Write the weights that `warm_start.make` variants have trained to where they are read.

    Returns:
        One line for each file written.
    """
    lines = []
    for name in variants:
        start = sweep.variants[name].warm_start
        if start is None or start.make is None or start.checkpoint is None:
            continue
        target = project.root / start.checkpoint
        done = [r for r in rows if r.variant == start.make and r.state == State.COMPLETE]
        if not done or target.is_file():
            continue
        source = best_checkpoint(project, sweep, done[-1])
        target.parent.mkdir(parents=True, exist_ok=True)
        request = {"checkpoint": str(source), "out": str(target)}
        run_tool("export_weights", request, sweep.job, project.root)
        top1 = 100 * (done[-1].best_top1 or 0.0)
        lines.append(
            f"Starting weights: {relative(target, project.root)}, from {done[-1].name} "
            f"({top1:.2f} % at epoch {done[-1].best_epoch})"
        )
    return lines
