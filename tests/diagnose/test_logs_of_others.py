"""Tables and logs as other programs, crashes and restarts leave them."""

import gzip
from pathlib import Path

import pytest

from pipeline.diagnose.log_case import LogCase, make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine
from pipeline.errors import InputError

ACCURACIES = (0.6, 0.7, 0.75)
STAMP = "2026/01/02 03:04:05 - mmengine - INFO - "


def case_of(path: Path, content: str | bytes) -> LogCase:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return make_case(read_log(path))


def values(case: LogCase) -> list[tuple[int, float]]:
    return [(point.epoch, round(value, 4)) for point, value in case.values]


def epoch_lines(first: int, accuracies: tuple[float, ...]) -> str:
    return "".join(
        f"{STAMP}Epoch(train) [{epoch}][9/9]  lr: 1.0e-03  loss: 0.5000\n"
        f"{STAMP}Epoch(val) [{epoch}][4/4]  acc/top1: {value:.4f}  time: 0.1000\n"
        for epoch, value in enumerate(accuracies, first)
    )


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("epoch;top1;lr", "{e};{comma};0,003"),
        ("epoch,top1", "{e},{percent}%"),
        ("epoch,top1", "{e}.0,{value}"),
        ("epoch,step,train_loss,val_acc", "{e},{e}0,,\n{e},{e}9,,{value}\n{e},{e}9,0.5,"),
        ("epoch,accuracy,loss,val_accuracy,val_loss", "{e},0.9,0.5,{value},0.6"),
    ],
)
def test_a_table_of_another_program_gives_its_accuracies(
    tmp_path: Path, header: str, row: str
) -> None:
    rows = [
        row.format(e=e, value=v, percent=100 * v, comma=str(v).replace(".", ","))
        for e, v in enumerate(ACCURACIES, 1)
    ]
    case = case_of(tmp_path / "t.csv", "\n".join([header, *rows, ""]))
    assert values(case) == list(enumerate(ACCURACIES, 1))
    assert case.curve.notes == () and examine(case) == []


def test_epochs_counted_from_zero_are_shown_from_one(tmp_path: Path) -> None:
    rows = "".join(f"{e},0.5,{100 * v}\n" for e, v in enumerate(ACCURACIES))
    case = case_of(tmp_path / "summary.csv", f"epoch,train_loss,eval_top1\n{rows}")
    assert values(case) == list(enumerate(ACCURACIES, 1))
    assert "counts its epochs from 0" in case.curve.notes[0]


def test_an_epoch_0_without_training_stays_the_check_of_the_start(tmp_path: Path) -> None:
    case = case_of(tmp_path / "t.csv", "epoch,lr,top1,loss\n0,,0.5,\n1,0.1,0.6,2.0\n")
    assert values(case) == [(1, 0.6)] and case.curve.notes == ()


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    case = case_of(tmp_path / "t.csv", "epoch,top1\n1,0.6x\n2,0.7\n")
    assert "line 2: top1 is '0.6x', not a number; left out" in case.curve.notes


def test_the_metric_that_is_named_instead_is_no_loss_and_no_training(tmp_path: Path) -> None:
    case = case_of(tmp_path / "t.csv", "epoch,train_loss,val_loss,val_mean acc\n1,2,3,0.4\n")
    (found,) = examine(case)
    assert found.remedy == "Name the metric to judge: --metric 'val_mean acc'"


@pytest.mark.parametrize("at", [0, 90])
def test_zeros_of_a_crash_lose_no_other_line(tmp_path: Path, at: int) -> None:
    log = epoch_lines(1, ACCURACIES).encode()
    case = case_of(tmp_path / "x.log", log[:at] + bytes(5000) + log[at:])
    assert values(case)[-2:] == [(2, 0.7), (3, 0.75)]


@pytest.mark.parametrize("start", [b"PK\3\4\0\0\0\1\2", b"\x18\0\0\0\0\0\0\0\xa3\7brain.Event:2"])
def test_a_binary_file_stays_one(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "x.log").write_bytes(start + bytes(range(256)))
    with pytest.raises(InputError, match="is a binary file"):
        read_log(tmp_path / "x.log")


def test_a_compressed_log_that_is_cut_short_says_how_to_read_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.log.gz"
    path.write_bytes(gzip.compress(epoch_lines(1, ACCURACIES).encode())[:-30])
    with pytest.raises(InputError, match=r"is cut short.*zcat \S+x.log.gz > \S+x.log"):
        read_log(path)


def test_a_second_training_in_the_same_file_does_not_end_in_the_first(tmp_path: Path) -> None:
    stop = f"{STAMP}the monitored metric did not improve in the last 3 records\n"
    log = epoch_lines(1, (0.6, 0.7, 0.75, 0.9)) + stop + epoch_lines(1, (0.3, 0.4))
    case = case_of(tmp_path / "x.log", log)
    assert values(case) == [(1, 0.3), (2, 0.4)] and examine(case) == []
    assert "goes back from epoch 4 to epoch 1 (line 10)" in case.curve.notes[0]


def test_a_resume_in_the_same_file_keeps_what_it_continues(tmp_path: Path) -> None:
    log = epoch_lines(1, (0.6, 0.7, 0.75, 0.9)) + epoch_lines(3, (0.8,))
    assert values(case_of(tmp_path / "x.log", log)) == [(1, 0.6), (2, 0.7), (3, 0.8)]


def test_a_table_from_the_newest_row_down_is_read_whole(tmp_path: Path) -> None:
    case = case_of(tmp_path / "t.csv", "epoch,top1\n3,0.75\n2,0.7\n1,0.6\n")
    assert values(case) == list(enumerate(ACCURACIES, 1))


def test_a_validation_that_mmcv_calls_training_is_one(tmp_path: Path) -> None:
    rows = "".join(
        f'{{"mode": "train", "epoch": {e}, "iter": 50, "lr": 0.1, "loss": 1.0, "time": 0.3}}\n'
        f'{{"mode": "train", "epoch": {e}, "iter": 9, "lr": 0.1, "top1_acc": {v}}}\n'
        for e, v in enumerate(ACCURACIES, 1)
    )
    assert values(case_of(tmp_path / "x.log.json", rows)) == list(enumerate(ACCURACIES, 1))


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("[Rank 1] Watchdog caught collective operation timeout: OpType=ALL.", "other ranks"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***", "longer"),
        ("traceback : Signal 9 (SIGKILL) received by PID 17", "memory was full"),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0.", "memory was full"),
    ],
)
def test_what_ended_a_run_from_outside_is_named(tmp_path: Path, line: str, remedy: str) -> None:
    (found,) = examine(case_of(tmp_path / "x.log", epoch_lines(1, (0.6, 0.7)) + line + "\n"))
    assert found.id == "incomplete" and found.evidence.endswith(line[-25:].rstrip("."))
    assert "after epoch 2" in found.evidence and remedy in found.remedy
