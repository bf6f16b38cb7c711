"""Every real log, read whole: the right value at the right epoch, and nothing found amiss."""

import json
import re
from pathlib import Path

import pytest

from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine
from pipeline.diagnose.series import choose_metric, infer_clips, series


def named(logs: list[Path], part: str) -> Path:
    return next(log for log in logs if part in log.name)


def test_every_validation_of_the_real_text_logs_is_read(real_logs: list[Path]) -> None:
    """Against the lines themselves, found by grep's means: final validation lines only."""
    final = re.compile(r"Epoch\(val\) \[(\d+)\]\[(?:(\d+)/\2|\d+)\]\s+(\S+): ([\d.]+)")
    for log in (path for path in real_logs if path.suffix == ".log"):
        truth = {}
        for number, line in enumerate(log.read_text().split("\n"), 1):
            if found := final.search(line):
                truth[int(found[1])] = (found[3], float(found[4]), number)
        curve = read_log(log)
        assert len(truth) >= 9
        assert {
            p.epoch: next((k, v, p.line) for k, v in p.metrics.items()) for p in curve.validated
        } == truth


def test_every_row_of_the_real_scalars_is_read(real_logs: list[Path]) -> None:
    log = named(real_logs, "scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    truth = {row["step"]: row["acc/top1"] for row in rows if "acc/top1" in row}
    rates = {row["epoch"]: row["lr"] for row in reversed(rows) if "lr" in row}
    curve = read_log(log)
    assert {p.epoch: p.metrics["acc/top1"] for p in curve.validated} == truth
    assert {p.epoch: p.lr for p in curve.points} == rates
    assert curve.last_epoch == 45


def test_text_and_scalars_of_one_run_agree(real_logs: list[Path]) -> None:
    text = read_log(named(real_logs, "230103.log"))
    exact = read_log(named(real_logs, "scalars.json"))
    assert [p.epoch for p in text.validated] == [p.epoch for p in exact.validated]
    for rounded, full in zip(text.validated, exact.validated, strict=True):
        assert rounded.metrics == {k: round(v, 4) for k, v in full.metrics.items()}


@pytest.mark.parametrize(
    ("part", "facts"),
    [
        ("Exercise_2", {"max_epochs": 10, "base_lr": 0.01, "num_classes": 30}),
        ("230103.log", {"max_epochs": 45, "base_lr": 0.001, "val_interval": 5}),
        ("nuaa6", {"max_epochs": 16, "base_lr": 0.05, "num_classes": 6}),
        ("rn_privacy", {"max_epochs": 50, "base_lr": 0.01, "num_classes": 21}),
    ],
)
def test_the_printed_config_is_understood(
    real_logs: list[Path], part: str, facts: dict[str, float]
) -> None:
    facts_read = read_log(named(real_logs, part)).facts
    assert {name: getattr(facts_read, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("part", "metric", "percent", "best", "epoch"),
    [
        ("Exercise_2", "accuracy/top1", True, 0.830275, 9),
        ("230103.log", "acc/top1", False, 0.7877, 35),
        ("scalars.json", "acc/top1", False, 0.7877346, 35),
        ("nuaa6", "top1_acc", False, 0.9976, 13),
        ("rn_privacy", "acc/top1", False, 0.7895, 31),
    ],
)
def test_the_metric_and_its_unit_are_recognised(
    real_logs: list[Path], part: str, metric: str, percent: bool, best: float, epoch: int
) -> None:
    curve = read_log(named(real_logs, part))
    assert choose_metric(curve) == metric
    found = series(curve, metric)
    assert found.percent is percent and found.best is not None
    assert (found.best[0].epoch, found.best[1]) == (epoch, pytest.approx(best))


def test_nothing_is_found_on_healthy_runs(real_logs: list[Path]) -> None:
    assert {log.name: examine(make_case(read_log(log))) for log in real_logs} == {
        log.name: [] for log in real_logs
    }


def test_the_size_of_a_validation_set_is_read_off_its_values(real_logs: list[Path]) -> None:
    # rn_privacy: 4 batches of 16, the last not full; UCF-101 split 1 has 3,783 test videos.
    small = series(read_log(named(real_logs, "rn_privacy")), "acc/top1")
    large = series(read_log(named(real_logs, "scalars.json")), "acc/top1")
    assert (small.clips, large.clips) == (57, 3783)


@pytest.mark.parametrize(
    "values", [[0.885, 0.886, 0.887, 0.888, 0.889], [0.5, 0.6], [], [0.91, 0.92, 0.93, 0.94, 0.95]]
)
def test_values_that_a_person_rounded_show_no_size(values: list[float]) -> None:
    assert infer_clips(values) is None
