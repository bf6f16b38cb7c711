"""Which column of a program's table is what: training, validation, test, rate, epoch."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import diagnose, log
from pipeline.diagnose.log_case import LogCase, make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.runner import diagnosis_text, examine
from pipeline.errors import InputError


def case_of(folder: Path, *lines: str) -> LogCase:
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return make_case(read_log(folder / "t.csv"))


def read(case: LogCase) -> tuple[str | None, list[tuple[int, float]]]:
    name = case.series.metric if case.series else None
    return name, [(point.epoch, value) for point, value in case.values]


@pytest.mark.parametrize(
    ("metric", "header", "rows"),
    [
        (
            "accuracy",
            "epoch,train_loss,valid_loss,accuracy,time",
            "0,2,1,{a},01:02|1,1,1,{b},01:02",
        ),
        (
            "val_categorical_accuracy",
            "epoch,categorical_accuracy,loss,val_categorical_accuracy,val_loss",
            "0,0.9,2,{a},1|1,0.9,1,{b},1",
        ),
        (
            "val_out_caps_acc",
            "epoch,loss,out_caps_acc,out_caps_loss,val_loss,val_out_caps_acc,val_out_caps_loss",
            "0,2,0.9,2,1,{a},1|1,1,0.9,1,1,{b},1",
        ),
        ("val_accuracy", ",loss,accuracy,val_loss,val_accuracy", "0,2,0.9,1,{a}|1,1,0.9,1,{b}"),
        ("test_acc", "epoch,loss,lr,test_acc", "1,2,0.1,{a}|2,1,0.1,{b}"),
        ("Test Accuracy", "Epoch,Train Loss,Test Accuracy", "1,2,{a}|2,1,{b}"),
        (
            "val_acc",
            ",_step,_runtime,_timestamp,epoch,train_loss,val_acc",
            "0,9,0.1,1.7e9,1,2,{a}|1,19,0.2,1.7e9,2,1,{b}",
        ),
        (
            "metrics/accuracy_top1",
            "   epoch,  train/loss,  metrics/accuracy_top1,  val/loss,  lr/pg0",
            "   1,   2,  {a},  1,  0.1|   2,  1,  {b},  1,  0.1",
        ),
        (
            "val_acc",
            "epoch,lr-AdamW,step,train_acc,train_loss_epoch,train_loss_step,val_acc",
            ",0.1,9,,,,|0,,9,,,2,|0,,19,,,2,|0,,20,,,,{a}|0,,20,0.9,2,,|1,,40,,,,{b}|1,,40,0.9,1,,",
        ),
    ],
)
def test_the_accuracy_of_the_validation_is_found(
    tmp_path: Path, metric: str, header: str, rows: str
) -> None:
    lines = rows.format(a=0.5, b=0.6).split("|")
    case = case_of(tmp_path, header, *lines)
    assert read(case) == (metric, [(1, 0.5), (2, 0.6)])
    assert [p.loss for p in case.curve.points] == [2, 1] and examine(case) == []
    assert not [note for note in case.curve.notes if "from 0" not in note]


def test_the_rate_in_a_row_of_its_own_belongs_to_the_rows_behind_it(tmp_path: Path) -> None:
    rows = [",0.1,9,,", "0,,9,2,", "0,,10,,0.5", ",0.05,19,,", "1,,19,1,", "1,,20,,0.6"]
    case = case_of(tmp_path, "epoch,lr-SGD,step,train_loss,val_acc", *rows)
    assert [(p.epoch, p.lr) for p in case.curve.points] == [(1, 0.1), (2, 0.05)]


def test_a_test_after_the_training_is_no_epoch_of_it(tmp_path: Path) -> None:
    rows = [
        "0,9,2,,,",
        "0,10,,0.5,,",
        "1,19,1,,,",
        "1,20,,0.6,,",
        "2,20,,0.99,,",
        "2,20,,,0.1,0.9",
    ]
    case = case_of(tmp_path, "epoch,step,train_loss,val_acc,test_loss,test_acc", *rows)
    assert read(case) == ("val_acc", [(1, 0.5), (2, 0.6)]) and case.curve.last_epoch == 2
    assert any("is a test after the training" in note for note in case.curve.notes)


def test_a_table_of_a_test_alone_is_a_test(tmp_path: Path) -> None:
    case = case_of(tmp_path, "epoch,test_loss,test_acc,step", "0,0.1,0.95,0")
    (only,) = examine(case)
    assert "finished test" in only.evidence and "test_acc 0.95" in only.evidence
    assert ": a test" in diagnosis_text(case, [])


def test_validations_alone_count_from_one_too_where_steps_show_training(tmp_path: Path) -> None:
    case = case_of(tmp_path, "epoch,step,val_acc", "0,10,0.5", "1,20,0.6")
    assert read(case)[1] == [(1, 0.5), (2, 0.6)]
    start = case_of(tmp_path, "epoch,step,val_acc", "0,0,0.5", "1,20,0.6")
    assert (read(start)[1], start.start) == ([(1, 0.6)], 0.5)


def test_several_validations_of_many_epochs_are_one_note(tmp_path: Path) -> None:
    rows = [f"{e},{v}" for e in range(1, 6) for v in (0.1 * e, 0.1 * e + 0.05, 0.11 * e)]
    case = case_of(tmp_path, "epoch,top1", *rows)
    assert case.curve.notes == (
        "5 epochs were validated more than once; the last values of each count",
    )
    same = case_of(tmp_path, "epoch,top1", "1,0.1", "1,0.2", "1,0.3")
    assert same.curve.notes == ("epoch 1 was validated 3 times; the last values (line 4) count",)


@pytest.mark.parametrize(
    "header",
    ["accuracy,loss,val_accuracy,val_loss", "Wall time,Step,Value", "Step,run - acc/top1"],
)
def test_a_table_that_numbers_no_epochs_says_what_it_lacks(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="is a table without a column `epoch`; it has"):
        case_of(tmp_path, header, "0.1,0.2,0.3,0.4"[: 4 * header.count(",") + 3])


@pytest.mark.parametrize(
    "header",
    [
        "Name,State,Notes,Created,Runtime,test_acc,epoch",
        "_runtime,_timestamp,epoch,val_acc,id,name",
    ],
)
def test_a_table_of_runs_is_not_the_epochs_of_one(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="is a table of runs, one a row"):
        case_of(tmp_path, header, ",".join("1" * (header.count(",") + 1)))


def test_a_second_start_in_one_table_repeats_its_header(tmp_path: Path) -> None:
    case = case_of(tmp_path, "epoch,top1", "1,0.5", "2,0.7", "3,0.8", "epoch,top1", "1,0.4")
    assert read(case) == ("top1", [(1, 0.4)])
    (only,) = case.curve.notes
    assert "goes back from epoch 3 to epoch 1 (line 6)" in only


def test_the_table_of_epochs_says_what_it_lacks(tmp_path: Path) -> None:
    def shown(*lines: str) -> str:
        case_of(tmp_path, *lines)
        return CliRunner().invoke(log.command, [str(tmp_path / "t.csv")]).output

    assert shown("epoch,top1").splitlines()[1:] == [
        f"No epoch to show; what the log is: pcan diagnose {tmp_path / 't.csv'}"
    ]
    assert "Name the metric to show: --metric mAP)" in shown("epoch,val_loss,mAP", "1,2.0,0.3")
    assert "no top-1" not in shown("epoch,top1", "1,0.3")


def test_a_table_of_a_header_says_that_it_has_no_row(tmp_path: Path) -> None:
    (only,) = examine(case_of(tmp_path, "epoch,train_loss,top1,", "epoch,train_loss,top1,"))
    assert "has no row of an epoch, only its header" in only.evidence


def test_what_may_be_no_measure_of_success_is_not_proposed(tmp_path: Path) -> None:
    (only,) = examine(case_of(tmp_path, "step,epoch,loss,logit_scale", "9,1,6.6,14.2"))
    assert "--metric logit_scale" not in only.remedy


@pytest.mark.parametrize("name", ["val_loss", "steer_mae", "DiarizationErrorRate", "NME"])
def test_a_loss_or_an_error_is_neither_proposed_nor_judged(tmp_path: Path, name: str) -> None:
    (only,) = examine(case_of(tmp_path, f"epoch,{name}", "1,0.3", "2,0.2"))
    assert only.id == "no_top1" and "None of them is an accuracy" in only.remedy
    for command in (diagnose.command, log.command):
        result = CliRunner().invoke(command, [str(tmp_path / "t.csv"), "--metric", name])
        assert isinstance(result.exception, InputError)
        assert "is better where it is lower" in str(result.exception)


def test_one_value_to_the_last_digit_is_one_class_for_every_clip(tmp_path: Path) -> None:
    rows = [f"{e},{0.2 + 0.001 * e},{1.8 - 0.01 * e},0.2,1.7" for e in range(8)]
    header = "epoch,accuracy,loss,val_accuracy,val_loss"
    (only,) = examine(case_of(tmp_path, header, *rows))
    assert only.id == "never_learned" and "to the last digit" in only.evidence
    learned = [row.replace(",0.2", ",0.9", 1) for row in rows]
    assert "never_learned" not in {f.id for f in examine(case_of(tmp_path, header, *learned))}


@pytest.mark.parametrize(
    ("values", "clips"),
    [
        ([93.7354965209961, 93.2714614868164, 92.57540893554688, 77.37818908691406], 862),
        ([95.24648, 94.54225, 94.01408, 93.1338, 92.60564], 568),
        ([0.9848333597183228, 0.9891666769981384, 0.2711666524410248, 0.9894999861717224], 6000),
        ([0.99329, 0.97987, 0.98658, 0.97315], 149),
        ([0.991, 0.972, 0.983, 0.954], None),
    ],
)
def test_the_clips_show_in_values_of_single_precision_and_in_few_of_them(
    tmp_path: Path, values: list[float], clips: int | None
) -> None:
    rows = [f"{epoch},{value}" for epoch, value in enumerate(values, 1)]
    case = case_of(tmp_path, "epoch,val_acc", *rows)
    assert case.series is not None and case.series.clips == clips


@pytest.mark.parametrize("name", ["20260102_030405.json", "scalars.json"])
def test_a_copied_work_dir_with_only_a_json_form_is_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "20260102_030405" / "vis_data"
    folder.mkdir(parents=True)
    rows = [{"lr": 0.1, "loss": 2.0, "epoch": 1, "step": 9}, {"acc/top1": 0.5, "step": 1}]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(make_case(read_log(tmp_path))) == ("acc/top1", [(1, 0.5)])
    tested = tmp_path / "20260102_040506"
    tested.mkdir()
    (tested / f"{tested.name}.json").write_text('{"acc/top1": 0.77, "acc/top5": 0.9}')
    assert "a test; the run before it is shown" in read_log(tmp_path).notes[-1]
    (only,) = examine(make_case(read_log(tested)))
    assert "finished test" in only.evidence
