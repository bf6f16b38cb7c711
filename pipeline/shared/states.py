"""States, phases, kinds and causes of trials, jobs and run directories.

Each member equals its value, so that files, columns and JSON hold plain strings. Both sides use
them: Python 3.8, where the standard library has no StrEnum.
"""

import enum
from typing import Optional


class Word(str, enum.Enum):
    """A member that reads, formats and compares as its value."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class State(Word):
    """Optuna's names of a trial's state, as its tables and our files spell them."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def finished(self) -> bool:
        """Whether Optuna counts a trial in this state as ended."""
        return self in (State.COMPLETE, State.PRUNED, State.FAIL)


class Phase(Word):
    """What Optuna's state leaves open: whether a trial that is not finished runs right now."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    DONE = "done"


class Kind(Word):
    """Why a trial exists."""

    RECIPE = "recipe"
    #: Drawn from a variant's space by `launch --trials`.
    DRAWN = "drawn"
    #: Drawn by `pcan sweep search`.
    SEARCH = "search"
    #: A finished trial on another seed.
    REPEAT = "repeat"
    #: A stopped trial that a person lets go on.
    CONTINUATION = "continuation"
    #: An earlier run, known from its log.
    IMPORTED = "imported"


class Cause(Word):
    """Why a trial or an attempt ended, in `outcome.json` and in the trials' table."""

    # what the rules decide
    GATE = "gate"
    PATIENCE = "patience"
    NAN = "nan"
    START_MISMATCH = "start_mismatch"
    HALVING = "halving"
    LADDER = "ladder"
    PAUSED = "paused"
    # what people and budgets decide
    INTERRUPTED = "interrupted"
    BUDGET = "budget"
    TIMEOUT = "timeout"
    SUPERSEDED = "superseded"
    # what the job or its machine suffers
    LOST_WORKER = "lost_worker"
    STALL = "stall"
    PORT = "port"
    OOM_CUDA = "oom_cuda"
    OOM_HOST = "oom_host"
    DISK_FULL = "disk_full"
    NO_GPU = "no_gpu"
    MACHINE_LIMIT = "machine_limit"  # shared memory, open files, processes, temporary files
    MACHINE_FAULT = "machine_fault"  # a GPU, a driver or a file system that fails
    CODE_ERROR = "code_error"
    BAD_CONFIG = "bad_config"
    BAD_DATA = "bad_data"
    BAD_CHECKPOINT = "bad_checkpoint"
    CHECKPOINT_REFUSED = "checkpoint_refused"  # a sound one, which stays
    LOST_CHECKPOINT = "lost_checkpoint"
    WARM_START = "warm_start"
    NO_METRIC = "no_metric"
    ENDED_EARLY = "ended_early"
    # why a trial that was never run has ended in Optuna alone
    NEVER_BEGUN = "never_begun"
    TAKEN = "taken"
    NO_RUN_DIRECTORY = "no_run_directory"


def is_repairable(cause: Optional[str]) -> bool:
    """Whether what made a trial fail lies outside its recipe: code, weights, data, the machine.

    What the rules decide stays decided, and a loss that is not finite is the recipe's own.
    """
    return cause not in (Cause.NAN, Cause.SUPERSEDED, Cause.NEVER_BEGUN, Cause.TAKEN)
