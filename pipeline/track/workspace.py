"""The saved W&B view of a sweep: curves with gates, bars, differences, searched values.

Needs the optional package wandb-workspaces. `python -m pipeline.track.workspace SWEEP_DIR` is the
child process that saves it; `save` is what the command calls. The view's id is kept in the
sweep's folder, so that the second call updates the first one's view.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, TrackingError
from pipeline.shared.files import check_schema, read_json, write_json
from pipeline.track import sync_state, wandb_server
from pipeline.track.run_payload import TrialFiles, WandbTarget, read_trial
from pipeline.track.wandb_process import last_line, run_module

SCHEMA = 1
KEPT = "wandb_workspace.json"
DEADLINE_S = 90.0
GATES = ["plan/floor", "plan/target", "plan/goal"]
BAND = ["plan/band_low", "plan/band_high"]


def save(sweep_dir: Path, target: WandbTarget) -> str:
    """Create or update the sweep's workspace in a child process; return its address.

    Raises:
        InputError: the optional package is missing, or there is nothing to show.
        TrackingError: the server cannot be used or did not take it.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise InputError(
            "compare --wandb needs a package that is not installed. "
            "Install it: pip install 'pcan[workspace]'"
        )
    trials = _trials(sweep_dir)
    if not trials:
        raise InputError(f"{sweep_dir} has no trial yet. Start one: pcan sweep launch")
    given = trials[0].spec.wandb
    target = WandbTarget(
        project=given.get("project") or target.project or "pcan",
        entity=given.get("entity") or target.entity or wandb_server.default_entity(),
    )
    try:
        done = run_module("pipeline.track.workspace", [str(sweep_dir), *target.argv()], DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise TrackingError("The W&B server did not answer in time. Try again later.") from None
    if done.returncode != 0:
        raise TrackingError(f"W&B did not take the workspace ({last_line(done)}).")
    return str(json.loads(done.stdout.strip().splitlines()[-1])["url"])


def _trials(sweep_dir: Path) -> list[TrialFiles]:
    trials = map(read_trial, sync_state.trial_folders(sweep_dir))
    return [trial for trial in trials if trial is not None]


def build(trials: list[TrialFiles], target: WandbTarget) -> Any:
    """Return the workspace as an object of wandb-workspaces; needs no network.

    Args:
        trials: decide which searched values become axes.
        target: project and entity, both known.
    """
    import wandb_workspaces.workspaces as ws

    sweep = str(trials[0].spec.wandb.get("group") or trials[0].spec.sweep)
    columns = ["status", "best_top1", "best_epoch", "final_top1", "gate", "reason"]
    sections = {
        "Top-1 against the plan": _top1_panels(),
        "Branches": _branch_panels(),
        "Training": [
            _lines("Learning rate", ["train/lr"], log_y=True),
            _lines("Loss", ["train/loss"]),
        ],
        "Outcome": _outcome_panels(searched(trials)),
    }
    return ws.Workspace(
        entity=str(target.entity),
        project=str(target.project),
        name=f"pcan {sweep}",
        sections=[
            ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("Group") == sweep],
            groupby=[ws.Config("variant")],
            order=[ws.Ordering(ws.Summary("best_top1"), ascending=False)],
            pinned_columns=["run:displayName", *(f"summary:{name}" for name in columns)],
        ),
    )


def _lines(title: str, keys: list[str], **options: Any) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, x="epoch", y=keys, **options)


def _by_variant(title: str, keys: list[str]) -> Any:
    """Return the mean of each variant's trials, with their range."""
    import wandb_workspaces.reports.v2 as wr

    by = {"groupby": wr.Config("variant"), "groupby_aggfunc": "mean"}
    return _lines(title, keys, groupby_rangefunc="minmax", **by)


def _top1_panels() -> list[Any]:
    return [
        _lines("Top-1, fused, with gates", ["val/top1", *GATES]),
        _lines("Top-1, fused, with the expected band", ["val/top1", *BAND]),
        _by_variant("Top-1 by variant", ["val/top1"]),
        _lines("Best so far", ["val/best_top1", "plan/goal"]),
    ]


def _branch_panels() -> list[Any]:
    return [_by_variant("RGB", ["val/rgb_top1"]), _by_variant("Pose", ["val/pose_top1"])]


def _outcome_panels(paths: list[str]) -> list[Any]:
    """Return bars, the run comparer and, where values were searched, their coordinates."""
    import wandb_workspaces.reports.v2 as wr

    panels = [
        wr.BarPlot(title="Best top-1", metrics=[wr.SummaryMetric("best_top1")]),
        wr.BarPlot(title="Epochs run", metrics=[wr.SummaryMetric("epochs_done")]),
        wr.RunComparer(diff_only=True),
    ]
    if paths:
        metrics = [*map(wr.Config, paths), wr.SummaryMetric("best_top1")]
        axes = [wr.ParallelCoordinatesPlotColumn(metric=metric) for metric in metrics]
        panels.append(wr.ParallelCoordinatesPlot(columns=axes))
    return panels


def searched(trials: list[TrialFiles]) -> list[str]:
    """Return the config paths whose searched values differ between trials."""
    values: dict[str, set[str]] = {}
    for trial in trials:
        for path, value in trial.spec.values.items():
            values.setdefault(path, set()).add(json.dumps(value))
    return sorted(path for path, texts in values.items() if len(texts) > 1)


def main() -> int:
    """Save the workspace and print its address as the last line."""
    parser = argparse.ArgumentParser(prog="pipeline.track.workspace")
    parser.add_argument("sweep_dir", type=Path)
    parser.add_argument("--project", required=True)
    parser.add_argument("--entity", required=True)
    args = parser.parse_args()
    target = WandbTarget(project=args.project, entity=args.entity)
    workspace = build(_trials(args.sweep_dir), target)
    kept = read_json(args.sweep_dir / KEPT) or {}
    check_schema(kept, SCHEMA, args.sweep_dir / KEPT)
    if kept.get("entity") == target.entity and kept.get("project") == target.project:
        # wandb-workspaces 0.4 has no public way to save over a view that was made earlier.
        workspace._internal_name, workspace._internal_id = kept["name"], kept["id"]
    workspace.save()
    record = {"entity": target.entity, "project": target.project}
    names = {"name": workspace._internal_name, "id": workspace._internal_id}
    write_json(args.sweep_dir / KEPT, {"schema": SCHEMA, **record, **names, "url": workspace.url})
    print(json.dumps({"url": workspace.url}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
