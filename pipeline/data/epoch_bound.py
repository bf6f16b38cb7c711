"""What bounds an epoch: the loading of its samples, or the training of them."""

import dataclasses

#: Measured cost of one sample's way through a loader's queue, in the training process.
QUEUE_MS = {"heatmaps": 6.5, "joints": 1.2}


@dataclasses.dataclass(frozen=True)
class LoaderLoad:
    """The size of a sweep's job on this machine."""

    ranks: int
    workers: int  # loader processes of a rank
    cores: int  # this job's share of the machine
    epoch_minutes: float | None = None  # of the sweep file


def loading_minutes(
    clips: int, cpu_ms: float, job: LoaderLoad, joints: bool
) -> tuple[float, float]:
    """Return the least minutes of an epoch in the loaders, and in one training process.

    Args:
        clips: samples of an epoch, all ranks together.
        cpu_ms: of one sample in a loader process.
        joints: whether joints are shipped instead of heatmaps.
    """
    processes = max(1, min(job.ranks * max(1, job.workers), job.cores))
    queue = QUEUE_MS["joints" if joints else "heatmaps"]
    loaders, main = clips * cpu_ms / processes, clips / job.ranks * queue
    return loaders / 6e4, main / 6e4


def sentence(clips: int, cpu_ms: float, job: LoaderLoad, joints: bool) -> str:
    """Return in words what the loading allows."""
    loaders, main = loading_minutes(clips, cpu_ms, job, joints)
    least = max(loaders, main)
    where = "in the loaders" if loaders >= main else "in the training process"
    text = f"An epoch of {clips} samples takes at least {_minutes(least)} {where}"
    if job.epoch_minutes is None:
        return text + "."
    share = least / job.epoch_minutes
    bound = "loading bounds the epoch" if share > 0.9 else "loading does not bound the epoch"
    return f"{text}; the sweep file has {job.epoch_minutes:g} min an epoch: {bound}."


def _minutes(value: float) -> str:
    return f"{value * 60:.0f} s" if value < 2 else f"{value:.1f} min"
