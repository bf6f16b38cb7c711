"""How many loader processes a job needs. Shared with the job side: Python 3.8, nothing else."""

#: Decoding videos uses what there is, up to this; more did not help in measurements.
MOST_FOR_VIDEO = 16
#: A sample from packs takes a few milliseconds: this many keep any GPU busy.
MOST_FOR_PACKS = 4


def suggest_workers(cores: int, slots: int, ranks: int, prepared: bool) -> int:
    """Return loader processes for one rank where `slots` jobs share the machine.

    A core stays for each training process; 0 means that nothing is left for loaders.
    """
    processes = max(1, slots) * max(1, ranks)
    free = (cores - processes) // processes
    return max(0, min(free, MOST_FOR_PACKS if prepared else MOST_FOR_VIDEO))
