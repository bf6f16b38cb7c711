"""`pcan init --from`: a sweep file for one's own config, which passes plan and lint at once."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import InputError
from pipeline.manage.metric_names import branches
from pipeline.manage.sweep_for_config import ConfigSource, place_of, sweep_for_config
from pipeline.plan.read import read_sweep

FUSED, RGB, POSE = "acc/RGBPose_1:1_top1", "acc/rgb_top1", "acc/pose_top1"


@pytest.fixture(scope="module")
def made(module_project) -> tuple[object, Path, str]:
    """A project made from a config beside it, its weights and the log of their run."""
    project = module_project
    his = project.root / "his 运行"
    his.mkdir()
    torch.save({"meta": {"epoch": 2}, "state_dict": {"w": torch.ones(2)}}, his / "epoch_2.pth")
    stamp = "2026/01/02 03:04:05 - mmengine - INFO - "
    rest = f"  {RGB}: 0.8  {POSE}: 0.7  data_time: 0.1  time: 0.2\n"
    rows = [f"{stamp}Epoch(val) [{n}][4/4]    {FUSED}: 0.89{n}0{rest}" for n in (1, 2, 3)]
    (his / "20260102_030405.log").write_text("".join(rows))
    words = ("--from", "jobs/tiny.py", "--code-root", "jobs", "--log", "his 运行")
    done = project.call("init", "mine", *words, "--checkpoint", "his 运行/epoch_2.pth")
    assert done.returncode == 0, done.stderr
    return project, project.root / "mine", done.stderr


def test_the_file_has_what_log_and_config_say(made) -> None:
    _, folder, _ = made
    sweep = read_sweep(folder / "sweeps" / "tiny.yaml", folder)
    assert sweep.config == "../jobs/tiny.py" and sweep.job.code_root == "../jobs"
    assert sweep.objective.metric == FUSED
    assert sweep.objective.branches == {"rgb": RGB, "pose": POSE}
    assert sweep.warm_start is not None
    start = sweep.warm_start
    assert (start.checkpoint, start.expect) == ("../his 运行/epoch_2.pth", 0.892)
    assert sweep.gates[0].record()["floor"] == 0.882


def test_it_passes_plan_and_lint_at_once(made, monkeypatch) -> None:
    project, folder, said = made
    assert "cd mine && pcan sweep plan tiny" in said
    monkeypatch.setattr(project, "root", folder)
    for words in (("sweep", "plan"), ("gates", "lint")):
        done = project.call(*words, "--json")
        assert done.returncode == 0, done.stderr
        assert '"severity": "error"' not in done.stdout


def test_nothing_is_overwritten_and_a_wrong_path_is_named(made, monkeypatch) -> None:
    project, folder, _ = made
    monkeypatch.chdir(project.root)
    config = Path("jobs/tiny.py")
    with pytest.raises(InputError, match=r"tiny.yaml exists already; nothing is overwritten"):
        sweep_for_config(folder, ConfigSource(config=config))
    with pytest.raises(InputError, match="--checkpoint: there is no checkpoint file no.pth"):
        sweep_for_config(Path("new"), ConfigSource(config=config, checkpoint=Path("no.pth")))
    assert not Path("new").exists()
    alone = project.call("init", "new", "--log", "his 运行")
    assert alone.returncode == 2 and "--log needs --from CONFIG" in alone.stderr


def test_the_names_are_found_without_a_log_by_one_sample(made, monkeypatch) -> None:
    project, *_ = made
    monkeypatch.chdir(project.root)
    config, code = Path("jobs/tiny.py"), Path("jobs")
    [_, file], _ = sweep_for_config(Path("second"), ConfigSource(config=config, code_root=code))
    sweep = read_sweep(Path("second") / file, Path("second"))
    assert sweep.objective.metric == FUSED
    assert sweep.objective.branches == {"rgb": RGB, "pose": POSE}


OWN = """
model = dict(type="Recognizer3D", cls_head=dict(type="I3DHead", num_classes=8))
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.2))
val_cfg = test_cfg = dict()
val_evaluator = [dict(type="AccMetric")]
loader = dict(batch_size=4, dataset=dict(type="PoseDataset", ann_file={file!r}))
val_dataloader = loader
"""
TRAINED = """
train_dataloader = dict(loader, dataset=dict(type="RepeatDataset", dataset=loader["dataset"]))
train_cfg = dict(by_epoch=True, max_epochs=24)
load_from = "weights/start.pth"
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch) -> Path:
    """A checkout's config, deep below it, whose data are elsewhere; and a folder beside it."""
    config = tmp_path / "fork" / "configs" / "skeleton" / "own" / "own.py"
    config.parent.mkdir(parents=True)
    config.write_text("_base_ = []\nimport os\n" + OWN.format(file="/gone/ann.pkl") + TRAINED)
    monkeypatch.chdir(tmp_path)
    return config


def test_without_log_and_data_the_evaluator_names_the_metric(checkout: Path) -> None:
    [_, file], notes = sweep_for_config(Path("new"), ConfigSource(config=checkout))
    sweep = read_sweep(Path("new") / file, Path("new"))
    assert sweep.objective.metric == "acc/top1" and sweep.variants["lower-lr"].like == "baseline"
    data, start = notes
    assert "train_dataloader.dataset.dataset.ann_file: FILE" in data and "/gone/ann.pkl" in data
    assert "starts from weights/start.pth (load_from)" in start and "--checkpoint FILE" in start


def test_data_at_an_absolute_path_are_read_where_a_process_can_run(checkout: Path) -> None:
    source, there = ConfigSource(config=checkout), [str(checkout)]
    assert place_of(Path("new"), source, there) == Path.cwd(), "the project is not made yet"
    Path("new").mkdir()
    assert place_of(Path("new"), source, there) == Path.cwd() / "new"
    assert place_of(Path("new"), source, ["skeleton/own/own.py"]) == checkout.parents[2]


def test_a_plan_starts_from_the_weights_that_its_config_starts_from(checkout: Path) -> None:
    weights = checkout.parents[3] / "weights" / "start.pth"
    weights.parent.mkdir()
    torch.save({"state_dict": {"w": torch.ones(2)}}, weights)
    [_, file], notes = sweep_for_config(Path("new"), ConfigSource(config=checkout))
    start = read_sweep(Path("new") / file, Path("new")).variants["baseline"].warm_start
    assert start is not None and start.checkpoint == "../fork/weights/start.pth"
    assert start.expect is None and "and so does the plan" in notes[-1]


def test_a_config_that_trains_nothing_and_a_metric_that_is_not_given_are_refused(
    checkout: Path,
) -> None:
    source = ConfigSource(config=checkout, metric="acc/f1")
    with pytest.raises(InputError, match="--metric: the validation gives no.*It gives: acc/top1"):
        sweep_for_config(Path("new"), source)
    checkout.write_text(OWN.format(file="C:\\\\ann.pkl"))
    with pytest.raises(InputError, match=r"no train_cfg.max_epochs: it says how"):
        sweep_for_config(Path("new"), ConfigSource(config=checkout))
    checkout.write_text("_base_ = []\ntrain_cfg = dict(type='IterBasedTrainLoop', max_iters=9)\n")
    with pytest.raises(InputError, match=r"trains by iterations \(train_cfg.max_iters\)"):
        sweep_for_config(Path("new"), ConfigSource(config=checkout))
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("names", "metric", "found"),
    [
        (["准确率/rgb_top1", "准确率/pose_top1", "准确率/top1"], "准确率/top1", ("rgb", "pose")),
        (["acc/rgb_top5", "acc/rgb_top1"], "acc/top1", ("rgb",)),
        (["acc/RGBPose_1:1_top1", "acc/top5"], "acc/RGBPose_1:1_top1", ()),
    ],
)
def test_branches_are_found_by_their_names(names, metric, found) -> None:
    assert set(branches(names, metric)) == set(found)
    assert all(name.endswith("top1") for name in branches(names, metric).values())
