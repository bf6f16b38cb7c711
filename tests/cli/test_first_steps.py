"""What someone reads who begins in the wrong place or types nearly the right thing."""

import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli, main
from pipeline.errors import NotReady
from pipeline.plan.first_steps import next_steps
from recorded_sweep import record_trial

ROOT = Path(__file__).resolve().parents[2]


def said(*words: str) -> str:
    result = CliRunner().invoke(cli, words)
    return f"{result.output}{result.exception}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shipped(folder: Path) -> Path:
    """A project with the shipped plans and no data."""
    for name in ("sweeps", "configs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "wandb.yaml", folder)
    return folder


@pytest.mark.parametrize("words", [[], ["sweep"], ["sweep", "status"], ["sweep", "launch"]])
def test_in_an_empty_folder_the_next_command_is_named(folder: Path, words: list[str]) -> None:
    assert folder.is_dir() and "Make a project here: pcan init" in said(*words)


def test_a_work_dir_leads_to_its_diagnosis_and_to_a_project(folder: Path) -> None:
    (folder / "20260102_030405" / "vis_data").mkdir(parents=True)
    (folder / "20260102_030405" / "vis_data" / "scalars.json").touch()
    (folder / "my_config.py").touch()
    text = said("sweep", "launch")
    assert "pcan diagnose ." in text and "--from my_config.py --log ." in text


def test_a_checkout_of_the_framework_is_known(folder: Path) -> None:
    (folder / "mmaction").mkdir()
    (folder / "mmaction" / "__init__.py").touch()
    assert "--from CONFIG.py --code-root ." in said()


def test_a_misspelt_config_leads_to_the_one_beside_it(shipped: Path) -> None:
    file = shipped / "sweeps" / "demo.yaml"
    file.write_text(file.read_text().replace("configs/pcan_demo.py", "configs/pcan_dmo.py"))
    text = said("sweep", "launch", "demo", "--device", "cpu")
    assert 'pcan_dmo.py" is missing' in text
    assert 'Did you mean "configs/pcan_demo.py"?' in text


def test_in_a_project_its_sweeps_and_the_next_command_are_named(shipped: Path) -> None:
    for words in ((), ("sweep",)):
        assert "Sweeps here: demo, pcan_ntu60, utd_mhad8." in said(*words)
        assert "pcan sweep plan demo   What it lacks: pcan doctor demo" in said(*words)
    (shipped / "runs" / "pcan_ntu60").mkdir(parents=True)
    assert "pcan sweep status pcan_ntu60" in said("sweep")
    shutil.rmtree(shipped / "sweeps")
    (shipped / "sweeps").mkdir()
    assert "no sweep file yet" in next_steps(shipped, marked=True)


def test_a_status_without_a_name_says_which_sweeps_have_trials(shipped: Path) -> None:
    started = shipped / "runs" / "demo" / "baseline" / "0"
    started.mkdir(parents=True)
    (started / "spec.json").write_text("{}")
    line = "Sweeps with trials: demo. Show one: pcan sweep status demo"
    assert line in said("sweep", "status") and line not in said("sweep", "status", "utd_mhad8")


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "continue"],
        ["sweep", "classes"],
        ["sweep", "rerun", "--check"],
        ["sweep", "refine", "--trial"],
        ["sweep", "best", "--trial"],
        ["diagnose", "--trial"],
    ],
)
def test_a_trial_of_another_sweep_is_answered_with_that_sweep(
    shipped: Path, words: list[str]
) -> None:
    record_trial(shipped / "runs" / "demo", "baseline", 0, [0.3])
    text = said(*words, "baseline/0")
    assert 'pcan_ntu60 has no trial "baseline/0"' in text
    assert "Name the sweep that has it: demo." in text
    assert "A trial is VARIANT/NUMBER, for example baseline/0" in said(*words, "demo")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a screen")
def test_a_page_is_not_opened_where_there_is_no_screen(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    record_trial(shipped / "runs" / "demo", "baseline", 0, [0.3])
    text = said("sweep", "compare", "demo", "--open")
    assert "no screen to open it on" in text and "pcan sweep compare demo --serve" in text


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["sweep", "status", "dmo"], 'Did you mean "demo"?'),
        (["sweep", "plan", "pcan_ntu6"], 'Did you mean "pcan_ntu60"?'),
        (["sweep", "launch", "demo", "--variant", "lr-02"], 'Did you mean "lr-0.02"?'),
        (["sweep", "lanch"], 'Did you mean "launch"?'),
        (["sweep", "show"], 'Did you mean "status"?'),
        (["status"], 'Did you mean "pcan sweep status"?'),
        (["resume"], 'Did you mean "pcan sweep launch"?'),
        (["sweep", "doctor"], 'Did you mean "pcan doctor"?'),
        (["sweep", "replay"], 'Did you mean "pcan gates replay"?'),
        (["data", "lint"], 'Did you mean "pcan gates lint"?'),
        (["data", "prepar"], 'Did you mean "prepare"?'),
    ],
)
def test_nearly_the_right_name_is_answered_with_it(
    shipped: Path, words: list[str], answer: str
) -> None:
    assert shipped.is_dir() and answer in said(*words)


def test_a_launch_lists_all_that_the_machine_lacks(shipped: Path) -> None:
    words = ["sweep", "launch", "pcan_ntu60", "--device", "cpu", "--wandb", "disabled"]
    result = CliRunner().invoke(cli, words)
    assert isinstance(result.exception, NotReady)
    assert "The checkpoint to start from is missing" in result.stderr, "at once"
    text = f"{result.stderr}{result.exception}"
    assert "Not ready either (pcan doctor pcan_ntu60):" in text
    assert "data: The annotation is missing" in text and text.count("checkpoint to start") == 1
    assert not (shipped / "runs" / "pcan_ntu60" / "baseline").exists()


def test_a_folder_that_is_gone_is_said(folder: Path, monkeypatch, capsys) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["pcan", "sweep", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 5
    assert "folder that this shell is in no longer exists" in capsys.readouterr().err
