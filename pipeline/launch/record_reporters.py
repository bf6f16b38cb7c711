"""Reporters that record something more with each epoch: GPU use, an audit of the labels.

Each appends a line to a file of the run directory (`gpus.jsonl`, `labels.jsonl`).
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.job.gpu_sampler import GpuProcessSample, GpuSample, GpuSampler, summarize
from pipeline.job.gpus import Gpu
from pipeline.job.process import belongs_to, is_visible
from pipeline.launch.reporters import Reporter, RunningTrial
from pipeline.plan.verdict import Verdict
from pipeline.shared.files import append_line, timestamp
from pipeline.shared.measurement import Measurement

#: How many other processes are named; one is enough to look for.
MOST_NAMED = 3
#: What to do about a finding, printed after it.
REMEDY = (
    "Look at labels and loss before anything else: pcan doctor tries whether the head's loss "
    'trains other labels than the loader gives (docs/model.md, "Labels that the loss changes").'
)


class GpuReporter(Reporter):
    """Samples the GPUs of the running trials; without a driver it does nothing.

    An epoch's line covers the time since the line before it: training, validation, checkpoint.
    """

    def __init__(self, sampler: GpuSampler | None = None) -> None:
        self._sampler = sampler or GpuSampler()

    def on_trial_start(self, trial: RunningTrial) -> None:
        for gpu in trial.slot.gpus:  # what a trial before it left does not count
            self._take(gpu)

    def on_step_end(self, trials: Sequence[RunningTrial]) -> None:
        uuids = [gpu.uuid for trial in trials for gpu in trial.slot.gpus]
        if uuids:
            self._sampler.poll(uuids)

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, _verdict: Verdict
    ) -> None:
        gpus = [self._epoch_of(gpu, trial.token) for gpu in trial.slot.gpus]
        if any(gpu["samples"] for gpu in gpus):
            record = {"epoch": measurement.epoch, "attempt": measurement.attempt, "gpus": gpus}
            with contextlib.suppress(OSError):  # a full disk is reported by who must write to it
                append_line(trial.rundir.gpus, json.dumps(record))

    def close(self) -> None:
        self._sampler.close()

    def _epoch_of(self, gpu: Gpu, token: str) -> dict[str, Any]:
        samples, processes = self._take(gpu)
        return {
            "index": gpu.index,
            "name": gpu.name,
            "total_mib": gpu.total_mib,
            **summarize(samples),
            "others": others(processes, token)[:MOST_NAMED],
        }

    def _take(self, gpu: Gpu) -> tuple[list[GpuSample], list[GpuProcessSample]]:
        return (
            self._sampler.samples.pop(gpu.uuid, []),
            self._sampler.processes.pop(gpu.uuid, []),
        )


def others(processes: Sequence[GpuProcessSample], token: str) -> list[str]:
    """Return the processes on a GPU that are not of the trial with this token.

    In a container the driver lists the pids of the host: none of them is seen, and a rank is one
    of them. A process that has ended in the meantime was perhaps the trial's own.
    """
    names = {process.pid: process.name for process in processes}
    seen = [pid for pid in names if is_visible(pid)]
    # Looked at again after its marker: one that is ending has lost that, and its command too.
    foreign = [pid for pid in seen if not belongs_to(pid, token) and is_visible(pid)]
    if not seen:
        latest = max((process.at for process in processes), default=0.0)
        foreign = [process.pid for process in processes if process.at == latest][1:]
    return [f"pid {pid} ({names[pid]})" for pid in foreign]


class LabelReporter(Reporter):
    """Compares a trial's predictions with other readings of the labels.

    The findings are kept in the run directory, since the predictions of most epochs are not.

    Args:
        write: takes one line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._reported: set[tuple[str, str, str]] = set()

    def on_trial_result(
        self, trial: RunningTrial, measurement: Measurement, _verdict: Verdict
    ) -> None:
        """Audit an epoch if it is the start, a gate's, or the last; report what is new."""
        epoch = measurement.epoch
        if epoch not in {0, trial.epochs, *(gate.epoch for gate in trial.rules.gates)}:
            return
        kept = trial.rundir.read_predictions(epoch)
        if kept is None:
            return
        from pipeline.plan.label_audit import audit

        found = audit(kept)
        new = [one for one in found if (trial.name, one.branch, one.reading) not in self._reported]
        for one in new:
            self._reported.add((trial.name, one.branch, one.reading))
            self._write(f"{trial.name} epoch {epoch}: label_mismatch: {one.sentence}.")
        if new:
            self._write(f"  {REMEDY}")
        record = {"epoch": epoch, "findings": [one.record() for one in found]}
        with contextlib.suppress(OSError):  # the findings are printed already
            append_line(trial.rundir.labels, json.dumps({**record, "time": timestamp()}))
