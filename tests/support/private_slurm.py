"""A SLURM of the tests' own: one node with four fake GPUs, on the loopback address.

The GPUs are null devices, so SLURM really grants them and sets CUDA_VISIBLE_DEVICES. Everything is
stopped by pid; every client call has a time limit, since they wait for ever on a dead controller.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
CALL_S = 60

CONF = """\
ClusterName=pcan
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=3600
SlurmdTimeout=10
SlurmctldTimeout=30
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 Boards=1 SocketsPerBoard=1 CoresPerSocket=16 \
ThreadsPerCore=1 RealMemory=2000 Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=short Nodes={host} MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if _program(name) is None]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class PrivateSlurm:
    """A cluster that lives in one folder.

    Args:
        folder: a short path; sockets lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.conf = folder / "slurm.conf"
        self._root = os.getuid() == 0

    def start(self) -> None:
        """Start munged, slurmctld and slurmd; return when the node is idle."""
        for name in ("munge", "ctld", "slurmd", "dev"):
            (self.folder / name).mkdir(mode=0o755)
        (self.folder / "munge" / "key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge" / "key").chmod(0o400)
        user = "root" if self._root else _me()
        text = CONF.format(
            folder=self.folder,
            host=self.host,
            user=user,
            ctld_port=_free_port(),
            d_port=_free_port(),
        )
        self.conf.write_text(text)
        gpus = self._gpu_files()
        (self.folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={gpus}\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\nCgroupPlugin=cgroup/v1\n")
        self._munged()
        self.call("slurmctld", "-c", "-i", "-f", str(self.conf))
        self.start_slurmd()

    def start_slurmd(self) -> None:
        self.call("slurmd", "-f", str(self.conf), "-N", self.host)
        deadline = time.monotonic() + 240
        while not set(self.call("sinfo", "-h", "-o", "%T").split()) & {
            "idle",
            "mixed",
            "allocated",
        }:
            assert time.monotonic() < deadline, f"the node never came up: {self.logs()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Cancel all jobs and stop the daemons by their pids."""
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self.call("scancel", "--quiet", "-u", str(os.getuid()))
            deadline = time.monotonic() + 10
            while self.call("squeue", "-h") and time.monotonic() < deadline:
                time.sleep(0.2)
        for name in ("slurmd", "slurmctld", "munge/munged"):
            self._end(self.folder / f"{name}.pid")

    def env(self) -> dict[str, str]:
        """Return what clients need in their environment."""
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        return {"SLURM_CONF": str(self.conf), "PATH": path}

    def call(self, *words: str) -> str:
        """Run a client tool, or a daemon that goes to the background by itself."""
        done = subprocess.run(
            words,
            env={**os.environ, **self.env()},
            capture_output=True,
            text=True,
            timeout=CALL_S,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stderr} {self.logs()}"
        return done.stdout

    def jobs(self) -> dict[str, dict[str, str]]:
        """Return every job with its fields."""
        listed = self.call("scontrol", "show", "job", "-o").splitlines()
        records = [dict(f.split("=", 1) for f in line.split() if "=" in f) for line in listed]
        return {r["JobId"]: r for r in records if "JobId" in r}

    def pid(self, name: str) -> int:
        """Return the pid of a daemon."""
        return int((self.folder / f"{name}.pid").read_text())

    def stepds(self, job: str = "") -> list[int]:
        """Return the pids of this cluster's slurmstepd, one for each running job, or of one."""
        found = []
        for entry in os.scandir("/proc"):
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self._is_stepd(entry.name, job):
                    found.append(int(entry.name))
        return found

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        files = [self.folder / "slurmctld.log", self.folder / "slurmd.log"]
        return "\n".join(f.read_text(errors="replace")[-4000:] for f in files if f.exists())

    def _is_stepd(self, pid: str, job: str) -> bool:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not command.startswith(f"slurmstepd: [{job}.".encode() if job else b"slurmstepd"):
            return False
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        return f"SLURM_CONF={self.conf}".encode() in environ

    def _gpu_files(self) -> str:
        if not self._root:  # a plain user makes no devices; that the files exist is enough
            return "/dev/tty[0-3]"
        for index in range(4):
            os.mknod(
                self.folder / "dev" / f"nvidia{index}", 0o666 | stat.S_IFCHR, os.makedev(1, 3)
            )
        return f"{self.folder}/dev/nvidia[0-3]"

    def _munged(self) -> None:
        folder = self.folder / "munge"
        words = [f"--{name}-file={folder}/{name}" for name in ("key", "seed")]
        words += [f"--socket={folder}/socket", f"--pid-file={folder}/munged.pid"]
        words += [f"--log-file={folder}/munged.log"]
        if self._root:
            shutil.chown(folder, "munge", "munge")
            shutil.chown(folder / "key", "munge", "munge")
            self.call(
                "setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", *words
            )
        else:
            self.call("munged", *words)

    def _end(self, file: Path) -> None:
        try:
            pid = int(file.read_text())
        except (OSError, ValueError):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + 10
            with contextlib.suppress(OSError):
                os.kill(pid, number)
                while time.monotonic() < deadline:
                    os.kill(pid, 0)
                    if _is_zombie(pid):
                        return
                    time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
