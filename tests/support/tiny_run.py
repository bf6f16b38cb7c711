"""Makes run directories of the tiny job and starts them as the control side would."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.shared.files import read_json, write_json
from pipeline.shared.rundir import MARKER, RunDir
from pipeline.train.config_file import load
from pipeline.train.config_text import to_text
from pipeline.train.override import apply

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "tests" / "jobs"


def make_run(root, overrides=None, **spec):
    """Write a run directory for `tiny.py` with these overrides and return it."""
    rundir = RunDir(root)
    rundir.root.mkdir(parents=True, exist_ok=True)
    config, _ = load(str(JOBS / "tiny.py"))
    assert apply(config, overrides or {}) == []
    text = to_text(config, "tiny.py")
    rundir.config.write_text(text)
    base = {
        "schema": 1,
        "sweep": "tiny",
        "variant": "baseline",
        "number": 0,
        "study": "tiny/baseline",
        "plan": None,
        "attempt": 1,
        "epochs": config["train_cfg"]["max_epochs"],
        "metric": "acc/RGBPose_1:1_top1",
        "branches": {"rgb": "acc/rgb_top1", "pose": "acc/pose_top1"},
        "seed": 0,
        "config_hash": hashlib.sha256(text.encode()).hexdigest(),
        "nproc": 2,
        "device": "cpu",
        "warm_start": None,
        "resume": None,
        "judge_wait_s": 0,
    }
    write_json(rundir.spec, {**base, **spec})
    return rundir


def change_spec(rundir, **values):
    """Rewrite some entries of a run directory's specification."""
    write_json(rundir.spec, {**read_json(rundir.spec), **values})


def start(rundir, nproc=2, **environment):
    """Start the job under torchrun; its output goes into `job.log`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={nproc}", "-m", "pipeline.train", str(rundir.root)]
    with open(rundir.job_log, "ab") as log:
        return subprocess.Popen(
            command,
            env={**environment_of(rundir), **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def environment_of(rundir):
    """Return the environment of a job: marked, one thread a rank, the parts importable."""
    path = os.pathsep.join([str(ROOT), str(JOBS)])
    marker = f"test-{rundir.root.name}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, MARKER: marker}


def run(rundir, nproc=2, timeout=120, **environment):
    """Run the job to its end and return torchrun's exit code."""
    process = start(rundir, nproc, **environment)
    try:
        return process.wait(timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def outcome(rundir):
    """Return the job's outcome; with the logs in the error if there is none."""
    record = read_json(rundir.outcome)
    assert record is not None, logs(rundir)
    return record


def logs(rundir):
    """Return the ends of all logs, for the message of a failed test."""
    paths = [rundir.job_log, *sorted(rundir.root.glob("rank*.log"))]
    return "\n".join(f"--- {p.name}\n{p.read_text()[-3000:]}" for p in paths if p.exists())


def processes_of(rundir):
    """Return the pids that carry this run's marker, but not this process."""
    wanted = f"{MARKER}=test-{rundir.root.name}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name != str(os.getpid()):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def ask(tool, question, cwd=ROOT, path=(), **environment):
    """Run one of the job side's tools; return its exit code and its answer.

    Args:
        path: folders that it can import from as well.
    """
    result = subprocess.run(
        [sys.executable, "-m", f"pipeline.train.tools.{tool}"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, path)]),
            **environment,
        },
        check=False,
    )
    assert result.stdout.count("\n") == 1, result.stdout + result.stderr
    return result.returncode, json.loads(result.stdout)


def run_alone(rundir, timeout=120):
    """Run the job as a single process without torchrun (half the time); return its exit code."""
    command = [sys.executable, "-m", "pipeline.train", str(rundir.root)]
    with open(rundir.job_log, "ab") as log:
        return subprocess.call(
            command, env=environment_of(rundir), stdout=log, stderr=log, timeout=timeout
        )


def run_program(rundir, program):
    """Run the job as a single process through a program of its own; return its exit code."""
    with open(rundir.job_log, "ab") as log:
        return subprocess.call(
            [sys.executable, "-c", program, str(rundir.root)],
            env=environment_of(rundir),
            stdout=log,
            stderr=log,
            timeout=120,
        )
