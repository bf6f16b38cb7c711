"""What `pcan sweep watch` says: the distance to the next gate, and a line for each change."""

import dataclasses

import pytest
from rich.table import Table
from rich.text import Text

from pipeline.cli.sweep_watch import watch_view
from pipeline.report.progress import shown_time
from pipeline.report.status.live import TrialSnapshot, changes
from pipeline.shared.measurement import Measurement


def course(*top1: float) -> list[Measurement]:
    return [Measurement(epoch=e, top1=value) for e, value in enumerate(top1, start=1)]


@pytest.mark.parametrize(
    ("gate", "history", "said"),
    [
        (0, (), "gate 1: floor 88.00 %, target 88.50 %"),
        (1, (0.8832,), "gate 5: target 89.50 % (-1.18), must reach 88.37 %"),
        (1, (0.8832, 0.889), "gate 5: target 89.50 % (-0.60), must reach 88.37 % (+0.53)"),
        (2, (0.8832,), "gate 10: floor 89.19 % (-0.87), target 90.00 % (-1.68)"),
    ],
)
def test_the_distance_to_the_next_gate_is_in_points(plan, gate, history, said) -> None:
    assert plan.variants["baseline"].gates[gate].distance(course(*history)) == said


@pytest.fixture
def seen() -> TrialSnapshot:
    return TrialSnapshot(
        trial="baseline/0",
        running=True,
        phase="train",
        epoch=2,
        epochs=30,
        measured=1,
        iteration=3,
        iterations=10,
        last_top1=0.8832,
        best_top1=0.8832,
        std_error=0.0025,
        lr=0.003,
        loss=1.0,
        next_gate="gate 5: target 89.50 % (-1.18)",
        seconds_left=26100.0,
        verdict="",
        ending="",
    )


def test_only_starts_epochs_and_ends_are_worth_a_line(seen: TrialSnapshot) -> None:
    started = changes([], [seen])
    assert started == [
        "baseline/0 epoch 1/30 | top-1 88.32 % ± 0.25 | lr 0.003 | gate 5: target 89.50 % (-1.18) "
        "| 7 h 15 min left"
    ]
    unknown = dataclasses.replace(seen, std_error=None)
    assert "| top-1 88.32 % (standard error unknown) |" in changes([], [unknown])[0]
    assert changes([seen], [dataclasses.replace(seen, iteration=4)]) == []
    ended = dataclasses.replace(seen, running=False, ending="pruned: epoch 5: no epoch")
    assert changes([seen], [ended]) == ["baseline/0 pruned: epoch 5: no epoch"]
    assert changes([ended], [ended]) == []


@pytest.mark.parametrize("width", [60, 40])
def test_watch_is_a_list_where_its_table_does_not_fit(seen: TrialSnapshot, width: int) -> None:
    assert isinstance(watch_view([seen], 120), Table)
    shown = watch_view([seen, dataclasses.replace(seen, running=False)], width)
    assert isinstance(shown, Text) and shown.plain.startswith("baseline/0 epoch 1/30 | ")
    assert max(map(len, shown.plain.splitlines())) <= width


def test_times_are_said_as_people_say_them() -> None:
    assert [shown_time(s) for s in (35, 1800, 15000)] == ["35 s", "30 min", "4 h 10 min"]
