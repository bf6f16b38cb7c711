"""Tables that programs write as JSON: a record an epoch, or a list of values a column."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import log
from pipeline.diagnose.log_case import LogCase, make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import examine
from pipeline.errors import InputError

VALUES = [0.25, 0.5, 0.75]
RECORDS = [
    {"epoch": e, "train_loss": 3 - e / 2, "val_loss": 2.0, "val_acc": v, "lr": 0.1}
    for e, v in enumerate(VALUES, 1)
]
COLUMNS = {"loss": [3, 2, 1], "accuracy": [0.9] * 3, "val_loss": [1] * 3, "val_accuracy": VALUES}


def case_of(folder: Path, *lines: Any, indent: int | None = None) -> LogCase:
    text = "".join(json.dumps(line, indent=indent) + "\n" for line in lines)
    (folder / "x.json").write_text(text)
    return make_case(read_log(folder / "x.json"))


def read(case: LogCase) -> tuple[str | None, list[tuple[int, float]]]:
    name = case.series.metric if case.series else None
    return name, [(point.epoch, value) for point, value in case.values]


@pytest.mark.parametrize(
    ("lines", "metric"),
    [
        (
            [
                {"train_lr": 0.1, "train_loss": 2, "test_loss": 1, "test_acc1": 100 * v}
                | {"test_acc5": 99.5, "epoch": e, "n_parameters": 5_000_000}
                for e, v in enumerate(VALUES)
            ],
            "test_acc1",
        ),
        ([RECORDS], "val_acc"),
        ([{"baseline": 0.1, "epochs": RECORDS, "final": 0.75}], "val_acc"),
        ([COLUMNS], "val_accuracy"),
        ([{"history": COLUMNS, "model": "x"}], "val_accuracy"),
        ([{"epoch": [0, 1, 2], "train_loss": [3, 2, 1], "val_acc": VALUES}], "val_acc"),
    ],
    ids=["DeiT", "records", "nested records", "Keras", "nested Keras", "columns with epochs"],
)
def test_each_form_gives_the_same_curve(tmp_path: Path, lines: list[Any], metric: str) -> None:
    for indent in (None, 2) if len(lines) == 1 else (None,):
        case = case_of(tmp_path, *lines, indent=indent)
        assert case.curve.format == "JSON table"
        assert read(case) == (metric, [(1, 0.25), (2, 0.5), (3, 0.75)])
        assert all(point.loss is not None for point in case.curve.points)


def test_the_records_of_transformers_are_put_together_by_epoch(tmp_path: Path) -> None:
    records: list[dict[str, float]] = []
    for epoch in (1, 2):
        records += [
            {"loss": 1.0, "learning_rate": 1e-4, "epoch": epoch - 0.5, "step": 10},
            {"eval_accuracy": epoch / 4, "eval_runtime": 9.0, "epoch": float(epoch), "step": 20},
        ]
    state = {"epoch": 2.0, "max_steps": 40, "log_history": records}
    case = case_of(tmp_path, state, indent=2)
    assert read(case) == ("eval_accuracy", [(1, 0.25), (2, 0.5)])
    assert [(p.lr, p.loss) for p in case.curve.points] == [(1e-4, 1.0)] * 2
    with pytest.raises(InputError, match=r"validates between its epochs \(at epoch 0.5\)"):
        case_of(tmp_path, [{"eval_accuracy": 0.2, "epoch": 0.5, "step": 10}])


def test_a_column_of_another_length_is_left_out_and_named(tmp_path: Path) -> None:
    history = {"phases": [0, 2], **COLUMNS, "fine_tune_val_accuracy": [0.9], "best": 0.75}
    case = case_of(tmp_path, history)
    assert case.curve.notes == (
        "phases, fine_tune_val_accuracy of another length than the rest; left out",
    )
    assert read(case)[1][-1] == (3, 0.75)


def test_the_histories_of_several_models_are_not_one_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 2 tables \(a, b\), not one of one training"):
        case_of(tmp_path, {"a": COLUMNS, "b": COLUMNS})


@pytest.mark.parametrize("value", [{"best_val_acc": 0.99, "loss": "x"}, [1, 2], {"loss": [1, 2]}])
def test_other_json_is_no_table(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError) as raised:
        case_of(tmp_path, value, indent=2)
    assert "JSON table" not in str(raised.value)


def test_a_table_without_validations_says_what_to_log(tmp_path: Path) -> None:
    (only,) = examine(case_of(tmp_path, {"epoch": [1, 2], "train_loss": [2, 1]}))
    assert "in the same table" in only.remedy


def test_the_axis_of_two_epochs_keeps_them_apart(tmp_path: Path) -> None:
    case_of(tmp_path, RECORDS[:2])
    shown = CliRunner().invoke(log.command, [str(tmp_path / "x.json")]).output
    assert shown.splitlines()[-1] == "    epoch  1 2"
