"""What of a job can be reached from outside the machine."""

import os
import signal
from pathlib import Path

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def open_to_others(pid: int) -> set[str]:
    """Return where a process listens beyond the loopback address, as the kernel writes it."""
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
    return {place for place in found if place.split(":")[0] not in LOOPBACK}


def test_ranks_listen_on_the_loopback_address_and_torchrun_on_one_port_at_most(
    project, until
) -> None:
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 4, model.sleep: 0.3}}\n")
    launch = project.start(*project.launch_words())
    until(lambda: len(project.epochs("baseline/0")) > 0, "epoch 1")
    open_to_all = {}
    for pid in project.job_pids():
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        role = "torchrun" if b"torch.distributed.run" in words else "rank"
        open_to_all.setdefault(role, []).append(len(open_to_others(pid)))
    os.kill(launch.pid, signal.SIGINT)
    os.kill(launch.pid, signal.SIGINT)
    launch.communicate(timeout=60)
    assert set(open_to_all) == {"torchrun", "rank"}
    assert set(open_to_all["rank"]) == {0} and max(open_to_all["torchrun"]) <= 1, open_to_all
