"""What counts as the same epoch, and which trials can be trained again."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.errors import InputError, NoResult
from pipeline.manage.rerun import compare, recorded_run
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from recorded_sweep import record_trial

FIRST = Measurement(
    epoch=1,
    top1=0.5,
    lr=0.01,
    loss=2.0,
    seconds=9.0,
    extra={"loss_align": 1.0, "loading_seconds": 3.0},
    time="2026-01-01T00:00:00+00:00",
)


def verdicts(now: Measurement, clips: int | None, exact: bool) -> dict[str, bool]:
    return {one["name"]: one["same"] for one in compare(FIRST, now, clips, exact)}


def test_times_do_not_count_and_every_other_figure_does() -> None:
    later = dataclasses.replace(FIRST, seconds=1.0, time="2027", attempt=2)
    assert verdicts(later, 400, True) == dict.fromkeys(("top1", "lr", "loss", "loss_align"), True)
    lost = dataclasses.replace(FIRST, extra={})
    assert verdicts(lost, 400, True)["loss_align"] is False


@pytest.mark.parametrize(
    ("field", "value", "gpu"),
    [("loss", 2.03, True), ("loss", 2.1, False), ("top1", 0.53, True), ("top1", 0.6, False)]
    + [("lr", 0.0101, False), ("loss", float("nan"), False)],
)
def test_a_gpu_has_its_noise_and_the_cpu_has_none(field: str, value: float, gpu: bool) -> None:
    now = dataclasses.replace(FIRST, **{field: value})
    assert verdicts(now, 400, exact=False)[field] is gpu
    assert verdicts(now, 400, exact=True)[field] is False


def test_what_cannot_be_trained_again_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "wandb.yaml").touch()
    (tmp_path / "lab.yaml").write_text(
        "name: lab\nconfig: c.py\nobjective: {metric: acc/top1}\n"
        "variants: {a: {set: {}}}\nladder: {start: a}\n"
    )
    sweep, project = read_sweep(tmp_path / "lab.yaml", tmp_path), Project(tmp_path)
    for number, spec in ((0, {}), (1, {"continues": "a/0"})):
        folder = record_trial(tmp_path / "runs" / "lab", "a", number, [], state=None, **spec)
        (folder / "config.py").write_text("x = 1\n")
    with pytest.raises(NoResult, match="a/0 has measured no epoch"):
        recorded_run(sweep, project, "a/0")
    with pytest.raises(InputError, match="pcan sweep rerun a/0 --check"):
        recorded_run(sweep, project, "a/1")
    for name in ("a/7", "a"):
        with pytest.raises(InputError, match=f'lab has no trial "{name}"; it has: a/0, a/1'):
            recorded_run(sweep, project, name)
