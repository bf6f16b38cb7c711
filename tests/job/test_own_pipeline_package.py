"""A project, or the checkout that its jobs use, may hold a package named `pipeline` itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.job.torch_tools import JOB_PATH, job_env, run_tool
from pipeline.plan.sweep import JobSettings

WHERE = "import pipeline.shared.rundir as r; print(r.__file__); import mine; print(mine.__file__)"

SPAWNS = """\
import multiprocessing


def where(queue):
    import pipeline.shared.rundir

    queue.put(pipeline.shared.rundir.__file__)


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=where, args=(queue,))
    child.start()
    print(queue.get())
    child.join()
"""


def own_package(folder: Path) -> None:
    """Write a `pipeline` that breaks whoever imports it, beside a module that jobs do import."""
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong pipeline')\n")


@pytest.fixture
def shadowed(tmp_path: Path) -> Path:
    own_package(tmp_path)
    own_package(tmp_path / "fork")
    (tmp_path / "mine.py").write_text("")
    return tmp_path


def ask(python: str, folder: Path, job: JobSettings, *argv: str) -> str:
    env = job_env(job, folder)
    done = subprocess.run(
        [python, *argv], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["this python", "python3.8"])
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter that jobs may have."""
    if request.param == "this python":
        return sys.executable
    installed = sorted(Path.home().glob(".pyenv/versions/3.8*/bin/python3.8"))
    for name in [shutil.which(request.param), *installed]:
        if name and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0:
            return str(name)
    pytest.skip("no Python 3.8 on this machine")


@pytest.mark.parametrize("code_root", [None, "fork"])
def test_a_job_imports_our_package_and_still_the_projects_modules(
    root: Path, shadowed: Path, python: str, code_root: str | None
) -> None:
    job = JobSettings(code_root=code_root)
    (shadowed / "where.py").write_text(WHERE)
    ours = str(root / "pipeline" / "shared" / "rundir.py")
    for argv in (["-m", "where"], ["-c", WHERE], ["where.py"]):
        assert ask(python, shadowed, job, *argv).split() == [ours, str(shadowed / "mine.py")]


def test_the_environments_own_sitecustomize_still_runs(
    shadowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = shadowed / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import builtins\nbuiltins.site_has_run = True\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    program = "print(site_has_run, __import__('sitecustomize').__file__)"
    reported = ask(sys.executable, shadowed, JobSettings(), "-c", program).split()
    assert reported == ["True", str(site / "sitecustomize.py")]


def test_a_worker_that_is_spawned_imports_our_package(root: Path, shadowed: Path) -> None:
    (shadowed / "spawns.py").write_text(SPAWNS)
    reported = ask(sys.executable, shadowed, JobSettings(), "-m", "spawns")
    assert reported.strip() == str(root / "pipeline" / "shared" / "rundir.py")


def test_a_module_of_a_job_is_imported_without_collecting_garbage(
    shadowed: Path, python: str
) -> None:
    (shadowed / "collects.py").write_text("import gc; print(gc.get_threshold()[0])\n")
    calls = (["-m", "collects"], ["-c", "import collects"], ["collects.py"])
    reported = [ask(python, shadowed, JobSettings(), *words) for words in calls]
    assert [int(one) for one in reported] == [500_000, 700, 700]


def test_a_tool_answers_in_such_a_project(shadowed: Path) -> None:
    answer = run_tool("selftest", {}, JobSettings(code_root="fork"), shadowed)
    assert "torch" in answer["versions"]


def test_nothing_but_the_bootstrap_is_put_on_a_jobs_path() -> None:
    assert [path.name for path in JOB_PATH.iterdir() if path.name != "__pycache__"] == [
        "sitecustomize.py"
    ]


@pytest.mark.slow
@pytest.mark.sample
def test_plan_doctor_and_a_detached_launch_work_in_such_a_project(project, until) -> None:
    own_package(project.root)
    own_package(project.root / "jobs")  # the sweep's code_root
    bin_folder = project.root / "bin"
    bin_folder.mkdir()
    script = bin_folder / "pcan"  # as pip writes it: the working directory is not on its path
    script.write_text("import sys\nfrom pipeline.cli.main import main\nsys.exit(main())\n")

    def pcan(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), *words],
            cwd=project.root,
            env=project.env(),
            capture_output=True,
            text=True,
            check=False,
        )

    project.ranks = 1
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 2, val_evaluator.top1: [0.6, 0.7]}}\n")
    plan = pcan("sweep", "plan", "tiny")
    assert plan.returncode == 0 and "Not shown" not in plan.stdout + plan.stderr
    doctor = json.loads(pcan("doctor", "tiny", "--device", "cpu", "--json").stdout)
    messages = [finding["message"] for finding in doctor["findings"]]
    assert not [message for message in messages if "pipeline.train" in message]
    named = [message.split()[0] for message in messages if "not imported in jobs" in message]
    assert named == [str(project.root / "pipeline"), str(project.root / "jobs" / "pipeline")]
    words = ("sweep", "launch", "tiny", "--device", "cpu", "--wandb", "offline", "--detach")
    launched = pcan(*words)
    assert launched.returncode == 0, launched.stderr

    def ended() -> bool:
        (study,) = json.loads(pcan("sweep", "status", "tiny", "--json").stdout)["studies"]
        states = [trial["state"] for trial in study["trials"]]
        log = project.root / "runs" / "tiny" / "launch.log"
        assert "FAIL" not in states, log.read_text()
        return states == ["COMPLETE"]

    until(ended, "the detached launch completes its trial")
    pid = int(launched.stderr.split("pid ")[1].split(",")[0])
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the launcher ends")
    assert list(project.folder("baseline/0").glob("wandb/offline-run-*"))
