"""Damage of every kind: never a traceback, never a wrong pair of epoch and value.

Missing values are fine, for a damaged log has them; a value that the whole log does not have at
that epoch is the one thing that must not happen.
"""

import contextlib
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import examples
from pipeline.diagnose.curve import Curve
from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine, report
from pipeline.errors import InputError

Pairs = set[tuple[int, str, float]]
#: What other processes print into the same stream.
INTRUDERS = [
    b"2024/10/19 23:57:59 - mmengine - INFO - Epoch(train) [49][15/15]  lr: 3.9426e-05  "
    b"loss: 1.0874\n",
    b"  warnings.warn(\n",
    b"[>>>>>>>>>>>>>>>>>>>>>>>>>>>>>] 57/57, 8.1 task/s, elapsed: 7s, ETA:     0s",
    b"/usr/lib/python3.8/site-packages/torch/x.py:40: UserWarning: acc/top1: 0.5\n",
    b"tensor([[0.1000, 0.9000],\n        [0.3000, 0.7000]])\n",
    b"\n",
    b"2023-03-07 14:41:41,024 - pyskl - INFO - Saving checkpoint at 4 epochs\n",
]


def pairs(curve: Curve) -> Pairs:
    return {(p.epoch, name, value) for p in curve.points for name, value in p.metrics.items()}


def read_all_the_way(path: Path) -> Curve | None:
    """Read, judge and report, as the command does; None if it is refused in words."""
    try:
        curve = read_log(path)
    except InputError as error:
        assert str(error).strip()
        return None
    case = make_case(curve)
    report(case, examine(case))
    return curve


@pytest.fixture(scope="module")
def contents(real_logs: list[Path]) -> list[tuple[str, bytes, Pairs]]:
    return [(log.name, log.read_bytes(), pairs(read_log(log))) for log in real_logs]


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def expect_no_wrong_pair(path: Path, truth: Pairs) -> Pairs:
    curve = read_all_the_way(path)
    found = pairs(curve) if curve else set()
    assert found <= truth
    return found


@examples(40)
@given(data=st.data())
def test_cut_anywhere(contents: list, damaged: Callable, data: st.DataObject) -> None:
    name, whole, truth = contents[data.draw(st.integers(0, len(contents) - 1))]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    if data.draw(st.booleans()):
        start = 0
    expect_no_wrong_pair(damaged(name, whole[start:end]), truth)


@examples(40)
@given(data=st.data())
def test_cut_in_a_validation_line(contents: list, damaged: Callable, data: st.DataObject) -> None:
    """The place where a cut hurts: inside the line with the value."""
    name, whole, truth = contents[data.draw(st.integers(0, len(contents) - 1))]
    marks = [m.start() for m in re.finditer(rb"Epoch\(val\)|\"acc/top1\"", whole)]
    cut = marks[data.draw(st.integers(0, len(marks) - 1))] + data.draw(st.integers(0, 140))
    expect_no_wrong_pair(damaged(name, whole[:cut]), truth)


@examples(40)
@given(data=st.data())
def test_lines_dropped(contents: list, damaged: Callable, data: st.DataObject) -> None:
    name, whole, truth = contents[data.draw(st.integers(0, len(contents) - 1))]
    lines = whole.splitlines(keepends=True)
    keep = random.Random(data.draw(st.integers(0, 2**32)))
    share = data.draw(st.sampled_from([0.02, 0.3, 0.9]))
    left = b"".join(line for line in lines if keep.random() > share)
    expect_no_wrong_pair(damaged(name, left), truth)


@examples(40)
@given(data=st.data())
def test_other_writers_in_between(contents: list, damaged: Callable, data: st.DataObject) -> None:
    """Text of other processes, also in the middle of a line and of a number."""
    name, whole, truth = contents[data.draw(st.integers(0, len(contents) - 1))]
    marks = [m.start() for m in re.finditer(rb"Epoch\(val\)|\"acc/top1\"", whole)]
    for _ in range(data.draw(st.integers(1, 4))):
        at = marks[data.draw(st.integers(0, len(marks) - 1))] + data.draw(st.integers(-3, 130))
        text = data.draw(st.sampled_from(INTRUDERS))
        whole = whole[: max(0, at)] + text + whole[max(0, at) :]
    expect_no_wrong_pair(damaged(name, whole), truth)


@examples(40)
@given(data=st.data())
def test_ranks_interleaved(contents: list, damaged: Callable, data: st.DataObject) -> None:
    """Several ranks print the same lines; metrics are broadcast, so the values agree."""
    name, whole, truth = contents[data.draw(st.integers(0, len(contents) - 1))]
    order = random.Random(data.draw(st.integers(0, 2**32)))
    waiting = [whole.splitlines(keepends=True)[::-1] for _ in range(data.draw(st.integers(2, 3)))]
    mixed = []
    while waiting:
        rank = order.choice(waiting)
        mixed += [rank.pop() for _ in range(min(len(rank), order.randrange(1, 12)))]
        waiting = [lines for lines in waiting if lines]
    found = expect_no_wrong_pair(damaged(name, b"".join(mixed)), truth)
    assert {epoch for epoch, _, _ in found} <= {epoch for epoch, _, _ in truth}


@examples(40)
@given(data=st.data())
def test_nan_values(contents: list, damaged: Callable, data: st.DataObject) -> None:
    name, whole, truth = contents[data.draw(st.integers(0, len(contents) - 1))]
    numbers = [m for m in re.finditer(rb"(?:loss|top1|_acc)\"?: (\d\.\d+)", whole)]
    hit = numbers[data.draw(st.integers(0, len(numbers) - 1))]
    word = b"NaN" if name.endswith(".json") else b"nan"
    curve = read_all_the_way(damaged(name, whole[: hit.start(1)] + word + whole[hit.end(1) :]))
    assert curve is not None
    assert {pair for pair in pairs(curve) if not math.isnan(pair[2])} <= truth


@examples(40)
@given(
    values=st.lists(st.integers(0, 10_000).map(lambda n: n / 10_000), min_size=1, max_size=12),
    name=st.sampled_from(
        ["acc/RGBPose_1:1_top1", "coco/AP .5", "coco/AP (M)", "single-label/f1-score", "mIoU"]
    ),
    first=st.integers(1, 2000),
)
def test_what_was_written_is_what_is_read(
    damaged: Callable, mmengine_log: Callable, values: list[float], name: str, first: int
) -> None:
    text = mmengine_log([0.5] * len(values), more={name: values}, first=first)
    found = {p.epoch: p.metrics[name] for p in read_log(damaged("x.log", text.encode())).validated}
    assert found == dict(enumerate(values, first))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"\xff\xfe" + data.decode("utf-8").encode("utf-16-le"),
        lambda data: b"\xfe\xff" + data.decode("utf-8").encode("utf-16-be"),
        lambda data: data.decode("utf-8").encode("gbk", "replace"),
        lambda data: data.replace(b"INFO", b"\x1b[4m\x1b[97mINFO\x1b[0m"),
        lambda data: data + b"x" * 9_000_000 + b"\n" + b"\n",
    ],
    ids=["crlf", "bom", "utf-16-le", "utf-16-be", "gbk", "colours", "a huge line"],
)
def test_another_encoding_changes_nothing(
    contents: list, damaged: Callable, change: Callable[[bytes], bytes]
) -> None:
    for name, whole, truth in contents:
        curve = read_all_the_way(damaged(name, change(whole)))
        assert curve is not None and pairs(curve) == truth


@examples(40)
@given(data=st.binary(max_size=3000) | st.text(max_size=800).map(str.encode))
def test_any_bytes_at_all(damaged: Callable, data: bytes) -> None:
    read_all_the_way(damaged("x.log", data))


@examples(40)
@given(
    lines=st.lists(
        st.sampled_from(
            [
                b'{"step": 3, "acc/top1": 0.5}',
                b'{"step": true, "acc/top1": 0.5}',
                b'{"step": 1e400, "lr": -Infinity, "loss": 1}',
                b'{"mode": "val", "epoch": -1, "top1_acc": 0.1}',
                b'{"mode": "train", "epoch": 2, "lr": {"a": 0.1}, "loss": "x"}',
                b'{"epoch": 1, "top1": 7.5, "lr": []}',
                b'{"epoch": 99999999999999999999, "top1": 0.5}',
                b'{"epoch": 1, "top1": 0.5, "extra": [1]}',
                b"[" * 100,
                b'{"env_info": "x"}',
                b"epoch,top1,lr",
                b"1,0.5,0.1",
                b'2,"0.5,0.1',
                b"3,1_0,nan",
                b"Epoch(val) [3][4/4]    acc/top1: 1e999  time: 0.1",
                b"Epoch(val) [999999999][4/4]    acc/top1: 0.5000  time: 0.1",
                b"Config:",
                b"train_cfg = dict(max_epochs=" + b"(" * 300,
                b"x = [" * 50,
                b"Traceback (most recent call last):",
                b"resumed epoch: 999999, iter: 3",
            ]
        ),
        max_size=12,
    )
)
def test_odd_but_possible_lines(damaged: Callable, lines: list[bytes]) -> None:
    read_all_the_way(damaged("x.log", b"\n".join(lines) + b"\n"))


def test_every_file_of_the_project_is_read_or_refused_in_words(root: Path) -> None:
    for path in _some_files(root):
        read_all_the_way(path)


def _some_files(root: Path) -> Iterator[Path]:
    for folder in ("pipeline", "sweeps", "tests"):
        for path in sorted((root / folder).rglob("*"))[:60]:
            if path.is_file():
                yield path


def test_folders_and_special_files_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(InputError):
            read_log(path)
    with contextlib.suppress(InputError):
        read_log(tmp_path)
