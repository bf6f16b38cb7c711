"""What of a job can be reached from outside the machine."""

import os
import signal
from pathlib import Path

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def listening(pid: int) -> set[str]:
    """Return where a process listens, `ADDRESS:PORT` as the kernel writes it."""
    inodes = set()
    for handle in os.listdir(f"/proc/{pid}/fd"):
        try:
            link = os.readlink(f"/proc/{pid}/fd/{handle}")
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1])
    return found


def test_no_process_of_a_job_listens_beyond_the_loopback_address(project, until) -> None:
    project.sweep(
        "  baseline: {patience: null, set: {train_cfg.max_epochs: 400, model.sleep: 0.3}}\n"
    )
    launch = project.start(*project.launch_words())
    until(lambda: len(project.epochs("baseline/0")) > 0, "epoch 1")
    places = {}
    for pid in project.job_pids():
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        role = "torchrun" if b"torch.distributed.run" in words else "rank"
        places.setdefault(role, set()).update(listening(pid))
    os.kill(launch.pid, signal.SIGINT)
    os.kill(launch.pid, signal.SIGINT)
    launch.communicate(timeout=240)
    assert places.keys() == {"torchrun", "rank"}
    assert places["torchrun"] == set(), "torchrun meets its ranks in files"
    assert places["rank"], "the ranks' own sockets would be seen"
    assert {place.split(":")[0] for place in places["rank"]} <= LOOPBACK
