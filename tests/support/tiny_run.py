"""Makes run directories of the tiny job and starts them as the control side would."""

import atexit
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.job.torch_tools import JOB_PATH
from pipeline.shared.files import read_json, write_json
from pipeline.shared.rundir import MARKER, MEETING, RunDir
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


def start(rundir, nproc=2, program=("-m", "pipeline.train"), **environment):
    """Start the job under torchrun; its output goes into `job.log`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={nproc}", *map(str, program), str(rundir.root)]
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
    path = os.pathsep.join([str(JOB_PATH), str(ROOT), str(JOBS)])
    marker = f"test-{rundir.root.name}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, MARKER: marker}


def run(rundir, nproc=2, timeout=120, **settings):
    """Run the job to its end and return torchrun's exit code; `settings` as `start` takes them."""
    process = start(rundir, nproc, **settings)
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


def difference(one, other, where=""):
    """Return the first place where two checkpoints differ, None if they are equal to the bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return None if torch.equal(one, other) else where
    if isinstance(one, dict):
        if set(one) != set(other):
            return f"{where}: {set(one) ^ set(other)}"
        parts = ((one[key], other[key], f"{where}.{key}") for key in one)
    elif isinstance(one, (list, tuple)):
        pairs = enumerate(zip(one, other, strict=True))
        parts = ((a, b, f"{where}[{place}]") for place, (a, b) in pairs)
    else:
        return None if one == other else f"{where}: {one!r} != {other!r}"
    return next((found for part in parts if (found := difference(*part))), None)


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
    program = TOOL.format(path=list(map(str, path)), tool=tool)
    code, reported, log = _ask(program, question, cwd, {**os.environ, **environment})
    assert reported.count("\n") == 1, reported + log
    return code, json.loads(reported)


def ask_as_a_child(tool, question, cwd, environment):
    """Run a tool with the search path of `python -m` in that folder.

    Returns:
        Its answer; None if it did not survive.
    """
    path = [str(cwd), *environment["PYTHONPATH"].split(os.pathsep)]
    reported = _ask(CHILD.format(path=path, tool=tool), question, cwd, environment)[1]
    return json.loads(reported) if reported.count("\n") == 1 else None


def _ask(program, question, cwd, environment):
    """Return a tool's exit code, what it answered and what else it printed."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer, log = (Path(folder, name) for name in ("asked", "answer", "log"))
        asked.write_text(json.dumps(question))
        [code] = _fork(program, [], [environment], (asked, answer, log), cwd)
        return code, answer.read_text(), log.read_text() if log.exists() else ""


def run_alone(rundir):
    """Run the job as a single process without torchrun; return its exit code."""
    return run_program(rundir, ALONE)


def run_program(rundir, program):
    """Run the job as a single process through a program of its own; return its exit code."""
    return _fork(program, [rundir.root], [environment_of(rundir)], _logged(rundir), ROOT)[0]


def run_code(program, *arguments, log, cwd=ROOT):
    """Run a test's own program, which imports what a job imports; return its exit code.

    Args:
        log: the file for what it prints.
    """
    environment = environment_of(RunDir(log.parent))
    return _fork(program, arguments, [environment], (os.devnull, log, log), cwd)[0]


def run_ranks(rundir, program=None, ranks=2):
    """Run the job as ranks that meet as under torchrun, but without it; return their codes."""
    words = [rundir.root]
    return _fork_ranks(program or ALONE, words, environment_of(rundir), _logged(rundir), ranks)


def run_script_as_ranks(script, *arguments, log):
    """Run a test's own script as two ranks; return their exit codes.

    Args:
        log: the file for what they print.
    """
    program = SCRIPT.format(path=[str(Path(__file__).parent)])
    environment = environment_of(RunDir(log.parent))
    return _fork_ranks(program, [script, *arguments], environment, (os.devnull, log, log))


def _fork_ranks(program, arguments, environment, files, ranks=2):
    with tempfile.TemporaryDirectory() as folder:
        shared = {**environment, "WORLD_SIZE": str(ranks), MEETING: str(Path(folder, "meeting"))}
        each = [{**shared, "RANK": str(one), "LOCAL_RANK": str(one)} for one in range(ranks)]
        return _fork(program, arguments, each, files, ROOT)


def _logged(rundir):
    return (os.devnull, rundir.job_log, rundir.job_log)


def _fork(program, arguments, environments, files, cwd):
    """Run a program in forks of the process below, one for each environment.

    Args:
        files: for its stdin, stdout and stderr.

    Returns:
        Their exit codes.
    """
    server = _forking_server()
    asked = {
        "argv": ["-c", *map(str, arguments)],
        "cwd": str(cwd),
        "envs": environments,
        "files": [str(file) for file in files],
        "program": program,
    }
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


ALONE = """
import sys
from pipeline.train.__main__ import leave_at_once, main
leave_at_once(main(sys.argv[1:]))
"""
SCRIPT = """
import runpy, sys
sys.path[1:1] = {path}
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TOOL = """
import runpy, sys
sys.path[1:1] = {path}
runpy.run_module("pipeline.train.tools.{tool}", run_name="__main__")
"""
CHILD = """
import runpy, sys
sys.path[:] = {path} + [entry for entry in sys.path if entry not in OWN_PATH]
runpy.run_module("pipeline.train.tools.{tool}", run_name="__main__")
"""
#: Imports once what every rank imports, and forks a process for each rank or tool: most of a short
#: one is that import. What it imports, sets and leaves behind itself is its own process's.
FORKS = """
import gc, json, os, signal, sys
gc.set_threshold(500_000)
import pipeline.train.run
# What torch and MMEngine import when an optimizer and a visualizer are made.
import matplotlib.backends.backend_agg, matplotlib.figure, torch._dynamo
gc.freeze()
OWN_PATH = ["", *os.environ["PYTHONPATH"].split(os.pathsep)]
def start(asked, env):
    pid = os.fork()
    if pid > 0:
        return pid
    signal.alarm(240)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(asked["cwd"])
    os.dup2(os.open(asked["files"][0], os.O_RDONLY), 0)
    for place in (1, 2):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(asked["files"][place], flags), place)
    sys.stdin = open(0)
    sys.argv = asked["argv"]
    try:
        exec(asked["program"], {"__name__": "__main__", "OWN_PATH": OWN_PATH})
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(ended.code or 0)
    sys.stdout.flush()
    os._exit(0)
for line in sys.stdin:
    asked = json.loads(line)
    pids = [start(asked, env) for env in asked["envs"]]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(json.dumps(codes), flush=True)
"""


@functools.cache
def _forking_server():
    """Start the program above, once for all tests of this process; it ends with its stdin."""
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        env=environment_of(RunDir(Path("server"))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(_end, server)
    return server


def _end(server):
    server.stdin.close()
    server.wait()
    server.stdout.close()
