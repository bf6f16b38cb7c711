"""Only processes that are provably the trial's are ever signalled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline.job.process import Command, JobProcess, pids_of, signal_marked
from pipeline.shared.rundir import MARKER, RunDir


def sleeper(token: str | None) -> subprocess.Popen[bytes]:
    env = {**os.environ, **({MARKER: token} if token else {})}
    process = subprocess.Popen(["sleep", "600"], env=env)
    while b"sleep" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)
    return process


def test_another_process_of_the_same_name_is_spared_even_by_its_pid() -> None:
    mine, foreign, neighbour = sleeper("token-a"), sleeper(None), sleeper("token-ab")
    try:
        assert pids_of("token-a") == [mine.pid]
        for process in (mine, foreign, neighbour):
            signal_marked(process.pid, "token-a", signal.SIGKILL)
        assert mine.wait(120) == -9
        assert foreign.poll() is None and neighbour.poll() is None
        signal_marked(mine.pid, "token-a", signal.SIGKILL)  # gone: no error
    finally:
        for process in (mine, foreign, neighbour):
            process.kill()
            process.wait()


def test_a_job_dies_with_its_launcher_even_if_torchrun_is_stopped(tmp_path: Path) -> None:
    """The launcher is a child of the test that is killed; its job only sleeps."""
    fake = tmp_path / "fakepython"
    fake.write_text("#!/bin/sh\nexec sleep 600\n")
    fake.chmod(0o755)
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from pipeline.job.process import Command, JobProcess\n"
        "from pipeline.shared.rundir import RunDir\nimport os\n"
        f"c = Command(python={str(fake)!r}, nproc=2, cwd=Path('/'), env=dict(os.environ), "
        f"visible='')\np = JobProcess(RunDir({str(tmp_path)!r}), 'token-dies', c)\n"
        "print(p.pid, flush=True)\ntime.sleep(600)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    os.kill(int(launcher.stdout.readline()), signal.SIGSTOP)
    launcher.kill()
    launcher.communicate()
    deadline = time.monotonic() + 240
    while pids_of("token-dies") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids_of("token-dies") == []


def test_no_word_of_a_job_reaches_a_shell(tmp_path: Path) -> None:
    root = tmp_path / "$(touch canary); touch canary\n--x"
    root.mkdir()
    command = Command(
        python="/bin/true", nproc=2, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, visible=""
    )
    process = JobProcess(RunDir(root), "token-shell", command)
    while process.running():
        time.sleep(0.01)
    assert command.argv(RunDir(root), "meeting")[-1] == str(root)
    assert not list(tmp_path.glob("canary"))
