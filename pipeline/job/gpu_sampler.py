"""What the GPUs do while a job runs: use, memory, power, temperature, throttling, processes.

`nvidia-smi` is asked every few seconds by one child that is never waited for: each call looks
whether it has answered. A driver that hangs costs the samples and nothing else; its child is
killed after a while; as long as the kernel keeps it no other is started. The fields and bits of
`clocks_throttle_reasons.active` are those of NVIDIA's documentation of nvidia-smi and NVML.
"""

import csv
import dataclasses
import math
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from pipeline.env import nvidia_smi

#: Seconds between two questions, and how long the driver may take for one.
INTERVAL_S = 5.0
ANSWER_S = 10.0
#: Each sixth question is about the processes on the GPUs.
PROCESSES_EVERY = 6
#: A gap between two samples counts for no more than this when power is summed up.
LONGEST_GAP_S = 30.0
#: Below this share of its time at work a GPU counts as waiting.
IDLE_BELOW = 0.10
_FIELDS = (
    "uuid",
    "utilization.gpu",
    "memory.used",
    "power.draw",
    "temperature.gpu",
    "clocks_throttle_reasons.active",
)
#: Slowed down by heat (software, hardware), or by the power supply.
_HEAT, _SUPPLY = 0x20 | 0x40, 0x08 | 0x80


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuSample:
    """One GPU at one moment; None is what the driver does not say.

    Args:
        at: `time.monotonic()`.
        use: share of the last moments in which a kernel ran, 0 to 1.
        used_mib: memory in use by all processes, MiB.
        watts: power draw.
        celsius: temperature of the chip.
        heat, supply: whether heat or the power supply slows it down.
    """

    at: float
    use: float | None = None
    used_mib: float | None = None
    watts: float | None = None
    celsius: float | None = None
    heat: bool | None = None
    supply: bool | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuProcessSample:
    """A process that holds memory of a GPU."""

    at: float
    pid: int
    name: str


class GpuSampler:
    """Samples of GPUs, collected without ever waiting.

    Args:
        interval_s: seconds between two questions.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        #: By GPU, ascending in time; the caller removes what it has used.
        self.samples: dict[str, list[GpuSample]] = {}
        self.processes: dict[str, list[GpuProcessSample]] = {}
        self._interval_s = interval_s
        self._fields = list(_FIELDS)
        self._child: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._began = -math.inf
        self._asked = 0
        self._about_processes = False

    def poll(self, uuids: Iterable[str]) -> None:
        """Take an answer that is there; ask again when it is time. Never blocks."""
        if self._child is not None:
            self._take_answer(set(uuids))
        elif time.monotonic() >= self._began + self._interval_s:
            self._ask()

    def close(self) -> None:
        """End a child that has not answered; it is not waited for."""
        if self._child is not None:
            self._child.kill()
            self._child.poll()

    def _ask(self) -> None:
        program = nvidia_smi()
        self._began = time.monotonic()
        if program is None:
            return
        self._about_processes = self._asked % PROCESSES_EVERY == 1
        self._asked += 1
        question = (
            "--query-compute-apps=gpu_uuid,pid,process_name"
            if self._about_processes
            else f"--query-gpu={','.join(self._fields)}"
        )
        # A pipe could fill up while it is not read.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._child = subprocess.Popen(
                [program, question, "--format=csv,noheader,nounits"],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
            )
        except OSError:
            self._output.close()

    def _take_answer(self, uuids: set[str]) -> None:
        child, output = self._child, self._output
        assert child is not None and output is not None
        code = child.poll()
        if code is None:
            if time.monotonic() > self._began + ANSWER_S:
                child.kill()  # the next call finds it ended, unless the kernel holds it
            return
        output.seek(0)
        text = output.read(1 << 20).decode(errors="replace")
        output.close()
        self._child = self._output = None
        if code != 0:
            self._leave_out_unknown_field(text)
            return
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(text.splitlines(), skipinitialspace=True)
            if row and row[0].strip() in uuids
        ]
        for row in rows:
            self._keep(row)

    def _leave_out_unknown_field(self, text: str) -> None:
        """Ask without a field that this driver does not know."""
        if "not a valid field" in text:
            self._fields = [f for f in self._fields if f == "uuid" or f'"{f}"' not in text]
            self._began = -math.inf

    def _keep(self, row: Sequence[str]) -> None:
        uuid, at = row[0], self._began
        if self._about_processes:
            if len(row) == 3 and row[1].isdigit():
                process = GpuProcessSample(at=at, pid=int(row[1]), name=row[2])
                self.processes.setdefault(uuid, []).append(process)
            return
        if len(row) == len(self._fields):
            sample = _sample(at, dict(zip(self._fields, row, strict=True)))
            self.samples.setdefault(uuid, []).append(sample)


def _sample(at: float, cells: Mapping[str, str]) -> GpuSample:
    use = _number(cells.get("utilization.gpu"))
    reasons = _bits(cells.get("clocks_throttle_reasons.active"))
    return GpuSample(
        at=at,
        use=None if use is None else use / 100,
        used_mib=_number(cells.get("memory.used")),
        watts=_number(cells.get("power.draw")),
        celsius=_number(cells.get("temperature.gpu")),
        heat=None if reasons is None else bool(reasons & _HEAT),
        supply=None if reasons is None else bool(reasons & _SUPPLY),
    )


def _number(text: str | None) -> float | None:
    """Return a number of the driver's table, None for `[N/A]` and the like."""
    try:
        value = float((text or "").split()[0])
    except (ValueError, IndexError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _bits(text: str | None) -> int | None:
    try:
        return int(text or "", 16)
    except ValueError:
        return None


def summarize(samples: Sequence[GpuSample]) -> dict[str, float | int | None]:
    """Return what one GPU did over these samples, as a line of `gpus.jsonl` holds it.

    `use` is the mean and `idle` the share of the samples below 10 %; `peak_mib` the most memory;
    `wh` the energy by the power of each sample up to the next; `celsius` the highest temperature;
    `heat` and `supply` the shares of samples in which one of them slowed the GPU down.
    """
    used = [s.use for s in samples if s.use is not None]
    return {
        "samples": len(samples),
        "use": _mean(used),
        "idle": _mean([float(value < IDLE_BELOW) for value in used]),
        "peak_mib": max((s.used_mib for s in samples if s.used_mib is not None), default=None),
        "wh": _energy_wh(samples),
        "celsius": max((s.celsius for s in samples if s.celsius is not None), default=None),
        "heat": _mean([float(s.heat) for s in samples if s.heat is not None]),
        "supply": _mean([float(s.supply) for s in samples if s.supply is not None]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _energy_wh(samples: Sequence[GpuSample]) -> float | None:
    """Return watts times seconds between samples, in watt hours; None without two samples."""
    pairs = [
        (first.watts, min(second.at - first.at, LONGEST_GAP_S))
        for first, second in zip(samples, samples[1:], strict=False)
        if first.watts is not None
    ]
    return round(sum(watts * gap for watts, gap in pairs) / 3600, 3) if pairs else None
