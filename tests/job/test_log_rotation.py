"""A log that grows without end is cut under the hands of the process that writes it."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.job.log_rotation import LogRotator, rotate

WRITER = """
import sys
from pathlib import Path
from pipeline.train.rank_process import log_to
log_to(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    print(f"line {number} " + "x" * 100)
"""


def test_a_log_is_cut_while_its_rank_goes_on_writing_into_it(tmp_path: Path) -> None:
    log = tmp_path / "rank0.log"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(log)], env=environ)
    try:
        for _ in range(3):
            grown(log, 400_000)
            assert rotate(log, most=300_000, kept=50_000)
            kept = (tmp_path / "rank0.log.1").read_text()
            assert numbers(kept)[-1] < numbers(read_begin(log))[0], "the log begins again"
        grown(log, 1000)
    finally:
        writer.kill()
        writer.wait()
    kept, now = (tmp_path / "rank0.log.1").read_text(), log.read_text()
    assert len(kept) >= 50_000 and "\0" not in kept + now
    assert numbers(kept)[-1] < numbers(now)[0], "in order"
    assert not rotate(log, most=10**9, kept=10)


def test_a_link_planted_for_the_kept_part_is_not_followed(tmp_path: Path) -> None:
    log, victim = tmp_path / "rank0.log", tmp_path / "victim"
    log.write_text("x" * 100)
    victim.write_text("mine")
    (tmp_path / "rank0.log.1").symlink_to(victim)
    assert rotate(log, most=10, kept=10)
    assert victim.read_text() == "mine"
    LogRotator([tmp_path / "absent.log", log]).check()


def read_begin(log: Path) -> str:
    """Return the first lines of a log that is written to, as soon as there are some."""
    grown(log, 1000)
    with open(log) as stream:
        return stream.read(1000)


def grown(log: Path, size: int) -> None:
    deadline = time.monotonic() + 240
    while not (log.exists() and log.stat().st_size >= size):
        assert time.monotonic() < deadline, "the writer stopped"
        time.sleep(0.005)


def numbers(text: str) -> list[int]:
    """Return the line numbers of the whole lines."""
    return [int(line.split()[1]) for line in text.splitlines()[1:-1]]
