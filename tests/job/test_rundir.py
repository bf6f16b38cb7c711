"""What a killed or foreign writer left in a run directory is passed over, and nothing else."""

from pathlib import Path

import pytest

from pipeline.shared.files import append_line, replacing_folder
from pipeline.shared.rundir import RunDir

GOOD = b'{"epoch": 3, "top1": 0.5, "lr": null, "extra": {"loss_cls": 1.5}}\n'


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch": 1, "top1": 0.1, "lr": 0.003',
        b"[" * 9000,
        b'{"a":' * 9000,
        b"\xff\xfe",
        b"null",
        b'{"epoch": true, "top1": 0.1}',
        b'{"epoch": -1, "top1": 0.1}',
        b'{"epoch": 1, "top1": "0.1"}',
        b'{"epoch": 1, "top1": 0.1, "lr": "0.003"}',
        b'{"epoch": 1, "top1": 0.1, "loss": [1]}',
        b'{"epoch": 1, "top1": 0.1, "extra": [1]}',
    ],
    ids=range(11),
)
def test_a_line_that_is_no_measurement_is_passed_over(tmp_path: Path, line: bytes) -> None:
    rundir = RunDir(tmp_path)
    rundir.measurements.write_bytes(line + b"\n" + GOOD)
    assert [m.epoch for m in rundir.read_measurements()] == [3]


@pytest.mark.parametrize("line", [b'{"epoch": 1, "verd', b"[" * 9000, b"\xff\xfe", b"[1]"])
def test_a_line_that_is_no_verdict_is_passed_over(tmp_path: Path, line: bytes) -> None:
    rundir = RunDir(tmp_path)
    rundir.verdicts.write_bytes(line)
    append_line(rundir.verdicts, '{"epoch": 1, "verdict": "go"}')
    assert rundir.read_verdicts() == [{"epoch": 1, "verdict": "go"}]


def test_an_unfinished_line_is_not_read_yet(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.measurements.write_bytes(GOOD + GOOD.replace(b"3", b"4").rstrip(b"\n"))
    assert [m.epoch for m in rundir.read_measurements()] == [3]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    for name in ("first", "second"):
        with replacing_folder(folder) as fresh:
            (fresh / name).write_text(name)
    with pytest.raises(RuntimeError), replacing_folder(folder) as fresh:
        (fresh / "third").write_text("")
        raise RuntimeError
    assert [file.name for file in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]
