"""One rank of a trial's job: `torchrun ... -m pipeline.train RUNDIR`.

Nothing heavy is imported before the process is safe (it dies with its parent) and its
output goes into its own log.
"""

import os
import sys
import time
import traceback
from typing import List, NoReturn

from pipeline.shared.files import FormatError, write_json
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.shared.states import Cause, State
from pipeline.train.outcome import JobFailure, Stage, classify_error, record_outcome
from pipeline.train.rank_process import (
    die_with_parent,
    dump_stacks_on_request,
    log_to,
    raise_file_limit,
)


def main(arguments: List[str]) -> int:
    """Run this rank to its end and return its exit code."""
    if len(arguments) != 1 or not os.path.isdir(arguments[0]):
        print("Give the run directory: python -m pipeline.train RUNDIR", file=sys.stderr)
        return 2
    die_with_parent()
    rundir, rank = RunDir(os.path.abspath(arguments[0])), int(os.environ.get("RANK", "0"))
    log_to(rundir.rank_log(rank))
    dump_stacks_on_request()
    raise_file_limit()

    stage, attempt = Stage(), 1
    try:
        spec = read_spec(rundir)
        attempt = spec.attempt
        starting(rundir, rank)
        limit_threads(str(spec.device), spec.nproc or 1)
        from pipeline.train.run import run_job

        run_job(rundir, spec, stage)
    except BaseException as error:
        traceback.print_exc()
        failure = classify_error(error, stage.name)
        if failure is not None:
            write_failure(rundir, attempt, rank, failure)
        leave_at_once(1)  # a return would free what holds data workers, which can block
    return 0


def read_spec(rundir: RunDir) -> TrialSpec:
    """Return the trial's specification; raise JobFailure if a job cannot act on it."""
    try:
        spec = rundir.read_spec()
    except FormatError as error:
        raise JobFailure(Cause.BAD_CONFIG, str(error)) from error
    if spec is None:
        raise JobFailure(Cause.BAD_CONFIG, f"{rundir.spec} is missing or holds no JSON object.")
    missing = [key for key in ("metric", "nproc", "device") if getattr(spec, key) is None]
    if missing:
        raise JobFailure(Cause.BAD_CONFIG, f"{rundir.spec} lacks {', '.join(missing)}.")
    return spec


def starting(rundir: RunDir, rank: int) -> None:
    """Write that the job is up, before the slow imports."""
    if rank == 0:
        now = time.time()
        record = {"epoch": 0, "phase": "starting", "iter": 0, "iters": 0, "lr": None}
        write_json(
            rundir.progress, {**record, "loss": None, "time": now, "epoch_started": now}, False
        )


def limit_threads(device: str, nproc: int) -> None:
    """Share the processors among the ranks, unless OMP_NUM_THREADS says otherwise.

    Has to come before torch is imported, as does hiding GPUs from a job that is to run on
    processors: MMEngine takes a GPU wherever it sees one.
    """
    if device != "cpu":
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    share = max(1, len(os.sched_getaffinity(0)) // max(1, nproc))
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(share))
    os.environ.setdefault("MKL_NUM_THREADS", threads)


def write_failure(rundir: RunDir, attempt: int, rank: int, failure: JobFailure) -> None:
    """Write the outcome; on a full disk there may be no room for it, and that is all right."""
    try:
        record_outcome(rundir, attempt, State.FAIL, failure.cause, failure.reason, rank)
    except OSError as error:
        print(f"outcome.json cannot be written: {error}", file=sys.stderr)


def leave_at_once(code: int) -> NoReturn:
    """End this process without waiting for threads, workers, or ranks that will never answer.

    All that matters is on the disk by now; data workers end with this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave_at_once(main(sys.argv[1:]))
