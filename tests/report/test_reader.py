"""`pipeline.results`: what a notebook reads, from run directories alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.results import SweepResults, open_sweep
from recorded_sweep import CLIPS, record_sweep, record_trial

TABLES = ("trials", "epochs", "verdicts", "configs", "scores")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepResults:
    """A copy of a sweep's run directories, far from its project."""
    made = record_sweep(tmp_path_factory.mktemp("project") / "runs" / "lab")
    copy = tmp_path_factory.mktemp("usb") / "copied"
    shutil.copytree(made, copy)
    shutil.rmtree(made)
    return open_sweep(copy)


def test_a_copied_folder_is_read_without_its_project(sweep: SweepResults) -> None:
    best = sweep.trial("lr_high/0")
    assert sweep.name == "lab" and len(sweep.trials) == 7
    assert (best.state, best.best.epoch, best.best.top1, best.clips) == (
        "COMPLETE",
        5,
        0.93,
        CLIPS,
    )
    assert best.code["project"]["branch"] == "main"
    assert sweep.trial("lr_low/0").verdicts[0]["next"] == "lr_high"


def test_columns_agree_with_the_records_and_have_one_length(sweep: SweepResults) -> None:
    for table in TABLES:
        records, columns = sweep.records(table), sweep.columns(table)
        assert records, table
        assert {len(column) for column in columns.values()} == {len(records)}, table
    epochs = sweep.columns("epochs")
    assert sum(name == "lr_high/0" for name in epochs["trial"]) == 5
    assert epochs["extra loss_align"][0] == 0.5
    trials = sweep.columns("trials")
    at = trials["trial"].index("lr_high/0")
    assert trials["std_error"][at] == pytest.approx((0.93 * 0.07 / CLIPS) ** 0.5)
    assert trials["value lr"][at] == 0.01 and trials["gpu_hours"][at] == pytest.approx(0.25)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_libraries_for_tables_take_the_columns_as_they_are(
    sweep: SweepResults, library: str
) -> None:
    module = pytest.importorskip(library)
    make = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}[library]
    for table in TABLES:
        made = getattr(module, make)(sweep.columns(table))
        rows = made.num_rows if library == "pyarrow" else len(made)
        assert rows == len(sweep.records(table)), table


def test_mixed_values_become_columns_of_one_type(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mixed"
    for number, value in enumerate((1, 0.5, "auto", None, [1, 2])):
        record_trial(folder, "a", number, [0.5], clips=None, values={"x": value})
    assert open_sweep(folder).columns("trials")["value x"] == [
        "1",
        "0.5",
        '"auto"',
        None,
        "[1, 2]",
    ]


def test_predictions_are_the_clips_of_the_best_epoch(sweep: SweepResults) -> None:
    scores = [row for row in sweep.records("scores") if row["trial"] == "baseline/0"]
    assert {row["epoch"] for row in scores} == {4} and len(scores) == CLIPS
    assert sum(row["right"] for row in scores) / CLIPS == 0.86


def test_what_is_not_there_is_one_sentence(sweep: SweepResults, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='has no trial "lr_high/9"; it has: baseline/0'):
        sweep.trial("lr_high/9")
    with pytest.raises(InputError, match="holds no run directories"):
        open_sweep(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        open_sweep(tmp_path / "none")
    with pytest.raises(InputError, match='no table "epoch"'):
        sweep.columns("epoch")  # type: ignore[arg-type]


def test_the_reader_loads_neither_torch_nor_a_library_for_tables(sweep: SweepResults) -> None:
    heavy = {"torch", "pandas", "polars", "pyarrow", "numpy", "optuna", "sqlalchemy", "pydantic"}
    program = (
        "import sys; from pipeline.results import open_sweep; "
        f"open_sweep({str(sweep.folder)!r}).columns('epochs'); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
