"""`spec.json` as one type: what is written, read back, and refused."""

import dataclasses
import json

import pytest

from pipeline.shared.files import FormatError, write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec

SPEC = TrialSpec(
    sweep="demo",
    variant="baseline",
    number=3,
    study="demo/baseline",
    trial="t",
    metric="acc/top1",
    nproc=2,
    device="cpu",
    data={"store": "prepared"},
)
KEYS = """schema sweep variant number study plan trial continues confirms search attempt values
overrides epochs metric branches goal best_known seed config_hash recipe_hash nproc device
warm_start resume judge_wait_s gates bands wandb versions created data loading
code gpu""".split()


def test_the_keys_on_disk_and_their_order_stay() -> None:
    assert list(SPEC.to_json()) == KEYS


def test_what_only_a_search_has_stands_in_no_other_file() -> None:
    searched = dataclasses.replace(SPEC, read="averaged", averaged_checks=[4, 8, 15])
    assert list(searched.to_json()) == [*KEYS, "read", "averaged_checks"]
    assert TrialSpec.from_json(searched.to_json()) == searched


def test_what_is_written_is_read_back(tmp_path) -> None:
    run = RunDir(tmp_path)
    assert run.read_spec() is None
    write_json(run.spec, SPEC.to_json())
    assert run.read_spec() == SPEC


def test_an_imported_run_has_only_the_keys_of_a_run_without_a_job() -> None:
    imported = TrialSpec(sweep="demo", variant="v", number=0, imported={"log": "x"}, attempt=0)
    assert list(imported.to_json()) == [
        *("schema", "sweep", "variant", "number", "study", "plan", "trial", "attempt", "values"),
        *("overrides", "epochs", "metric", "goal", "best_known", "recipe_hash", "wandb"),
        "imported",
    ]


def test_keys_of_other_versions_are_kept() -> None:
    record = {**SPEC.to_json(), "colour": "red"}
    spec = TrialSpec.from_json(record)
    assert spec.others == {"colour": "red"}
    assert dataclasses.replace(spec, seed=1).to_json() == {**record, "seed": 1}


def test_a_few_keys_are_enough_to_read() -> None:
    spec = TrialSpec.from_json({"epochs": 30, "gates": None})
    assert (spec.epochs, spec.gates, spec.device, spec.attempt) == (30, [], None, 1)


def test_a_newer_schema_is_refused_in_a_sentence(tmp_path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"schema": 2, "sweep": "demo"}))
    with pytest.raises(FormatError, match=r"spec.json was written by a newer pcan \(schema 2;"):
        RunDir(tmp_path).read_spec()


@pytest.mark.parametrize(
    ("key", "value"),
    [("nproc", "two"), ("gates", {}), ("values", [1]), ("attempt", True), ("schema", "one")],
)
def test_a_value_of_another_kind_is_named(key: str, value: object) -> None:
    with pytest.raises(FormatError, match=f"spec.json cannot be used: {key} is "):
        TrialSpec.from_json({"sweep": "demo", key: value})


def test_the_start_is_checked_once_and_only_if_something_is_expected() -> None:
    def checks(resume: object = None, **start: object) -> bool:
        return TrialSpec.from_json({"warm_start": start, "resume": resume}).checks_start

    assert checks(expect=0.9) and not checks() and not checks("epoch_1.pth", expect=0.9)
    assert not checks(expect=0.9, on_mismatch="skip")
