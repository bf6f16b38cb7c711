"""The W&B workspace: built without network, saved to the loopback server, updated by the next."""

import importlib.util
import json
import sys

import pytest

from pipeline.errors import InputError
from pipeline.track import workspace
from pipeline.track.run_payload import WandbTarget, read_trial

installed = pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None,
    reason="wandb-workspaces is not installed (optional extra)",
)


def searching(job):
    runs = [job(number=n, values={"lr": 0.001 * n, "momentum": 0.9}) for n in (1, 2)]
    return [read_trial(run.folder) for run in runs]


def test_only_values_that_differ_are_worth_an_axis(job):
    assert workspace.searched(searching(job)) == ["lr"]


def test_without_the_package_says_how_to_get_it(job, sweep_dir, monkeypatch):
    job()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pcan\[workspace\]"):
        workspace.save(sweep_dir, WandbTarget())


@installed
def test_the_saved_view_holds_gates_branches_lr_bars_and_comparer(online, job, sweep_dir):
    searching(job)
    url = workspace.save(sweep_dir, WandbTarget(project="pcan"))
    assert url.startswith(f"{online.url}/lab/pcan")
    [view] = online.views
    view_spec = view["spec"]
    for word in ("val/top1", "plan/floor", "plan/target", "plan/band_low", "val/rgb_top1"):
        assert word in view_spec
    for word in ("val/pose_top1", "train/lr", "best_top1", "Run Comparer", "Parallel"):
        assert word in view_spec
    assert json.loads(view_spec)["section"]


@installed
def test_saving_again_updates_the_same_view(online, job, sweep_dir):
    searching(job)
    workspace.save(sweep_dir, WandbTarget(project="pcan"))
    workspace.save(sweep_dir, WandbTarget(project="pcan"))
    first, second = online.views
    assert (first.get("id"), second["id"]) == (None, "v1")
    assert second["name"] == first["name"]


@installed
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the package's own, at import
def test_the_workspace_is_built_without_network(job, wandb_env):
    made = workspace.build(searching(job), WandbTarget(project="p", entity="e"))
    assert [section.name for section in made.sections][0] == "Top-1 against the plan"
    assert "wandb_workspaces" in sys.modules
