"""What people keep of a console: several starts, tests and Ctrl+C in one text."""

from pathlib import Path

import pytest

from pipeline.diagnose.log_case import Finding, LogCase, make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine

STAMP = "01/02 03:04:05 - mmengine - INFO - "
CTRL_C = (
    'Traceback (most recent call last):\n  File "C:\\x\\train.py", line 1, in <module>\n'
    "KeyboardInterrupt\n"
)
CRASH = CTRL_C.replace("KeyboardInterrupt", "RuntimeError: CUDA out of memory.")


def config(epochs: int, classes: int = 7) -> str:
    return (
        f"{STAMP}Config:\nmodel = dict(cls_head=dict(num_classes={classes}))\n"
        f"train_cfg = dict(max_epochs={epochs}, val_interval=1)\n{STAMP}Hooks\n"
    )


def trained(epoch: int, step: int = 400, loss: float = 0.5) -> str:
    return f"{STAMP}Epoch(train)  [{epoch}][{step}/470]  lr: 1.0e-02  loss: {loss}\n"


def validated(epoch: int, top1: float) -> str:
    return f"{STAMP}Epoch(val) [{epoch}][194/194]    acc/top1: {top1:.4f}  time: 0.8\n"


def case_of(tmp_path: Path, content: str) -> LogCase:
    path = tmp_path / "x.log"
    path.write_text(content)
    return make_case(read_log(path))


def found(tmp_path: Path, content: str) -> dict[str, Finding]:
    return {f.id: f for f in examine(case_of(tmp_path, content))}


def test_ctrl_c_is_no_error(tmp_path: Path) -> None:
    run = config(10) + trained(1) + validated(1, 0.2) + trained(2) + CTRL_C
    (only,) = found(tmp_path, run).values()
    assert (only.id, only.severity, only.epoch) == ("incomplete", "note", 2)
    assert "stopped by hand in epoch 2" in only.evidence
    assert "resume from the last checkpoint" in only.remedy


@pytest.mark.parametrize(
    ("rest", "when"), [("", "after epoch 1"), (trained(2), "in epoch 2")], ids=["val", "train"]
)
def test_an_error_says_whether_the_epoch_was_over(tmp_path: Path, rest: str, when: str) -> None:
    run = config(10) + trained(1) + validated(1, 0.2) + rest + CRASH
    assert f"the program failed {when} (line " in found(tmp_path, run)["incomplete"].evidence


def test_an_error_behind_the_last_epoch_leaves_the_training_complete(tmp_path: Path) -> None:
    run = config(2) + trained(1) + validated(1, 0.2) + trained(2)
    (only,) = found(tmp_path, run + validated(2, 0.3) + CRASH).values()
    assert only.severity == "note" and "the training is complete" in only.evidence
    assert found(tmp_path, run + CRASH)["incomplete"].severity == "error"


def test_a_test_that_failed_is_called_a_test(tmp_path: Path) -> None:
    run = config(10) + f"{STAMP}Epoch(test) [ 80/200]    eta: 0:01:52  time: 0.7\n"
    ended = found(tmp_path, run + CTRL_C)
    assert "the test was stopped by hand after 80 of 200" in ended["incomplete"].evidence
    assert "start the test again" in ended["incomplete"].remedy
    assert "If it no longer runs" not in ended["no_validation"].remedy
    assert "the test failed after 80 of" in found(tmp_path, run + CRASH)["incomplete"].evidence


def test_a_test_behind_the_training_leaves_it_as_it_was(tmp_path: Path) -> None:
    run = config(2) + trained(1) + validated(1, 0.2) + trained(2) + validated(2, 0.3)
    test = config(2) + f"{STAMP}Epoch(test) [ 80/200]    eta: 0:01:52  time: 0.7\n" + CTRL_C
    case = case_of(tmp_path, run + test)
    assert [value for _, value in case.values] == [0.2, 0.3] and examine(case) == []


def test_validations_of_several_starts_are_not_mixed(tmp_path: Path) -> None:
    first = "".join(validated(e, 0.9 + e / 100) for e in range(1, 9))
    case = case_of(tmp_path, first + validated(1, 0.1) + validated(2, 0.2))
    assert [value for _, value in case.values] == [0.1, 0.2]
    assert any("goes back from epoch 8 to epoch 1 (line 9)" in n for n in case.curve.notes)
    case = case_of(tmp_path, validated(100, 0.6) + validated(50, 0.9))
    assert [(p.epoch, value) for p, value in case.values] == [(50, 0.9)]


def test_a_resumed_run_may_have_more_epochs_than_the_first_start_planned(tmp_path: Path) -> None:
    first = config(2) + "".join(trained(e) + validated(e, 0.3 + e / 10) for e in (1, 2))
    case = case_of(tmp_path, first + f"{STAMP}resumed epoch: 2, iter: 940\n" + trained(3))
    assert case.curve.last_epoch == 3 and case.planned is None


def test_a_try_of_a_few_steps_is_not_blamed_for_learning_nothing(tmp_path: Path) -> None:
    run = config(3) + "".join(trained(e, 4, 1.95) + validated(e, 1 / 7) for e in (1, 2, 3))
    assert "never_learned" in found(tmp_path, run)
    assert found(tmp_path, run.replace("/470]", "/4]")) == {}


def test_a_validation_without_a_metric_is_named(tmp_path: Path) -> None:
    only = found(tmp_path, f"{STAMP}Epoch(val) [20][13/13]  \nacc/top1: 0.5\n")["no_validation"]
    assert "the validation of epoch 20 (line 1) has no metric" in only.evidence
