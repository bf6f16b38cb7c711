"""A storage with thousands of trials, and many workers that are nothing but rows.

A simulated worker is what a launch writes of itself: it claims, reports and ends through the
product's own code. A few threads, each with a connection, play them all.
"""

import dataclasses
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.lease import Lease
from pipeline.study.owner import ProcessIdentity, this_process
from pipeline.study.register import recipe_of, register
from pipeline.study.tables import optuna_trials, trials

HASH = "h"


def write_sweep(folder: Path, variants: int) -> Sweep:
    """Write the file of a sweep with so many variants, and read it."""
    named = "".join(f"  v{i}: {{set: {{train_cfg.max_epochs: 30}}}}\n" for i in range(variants))
    file = folder / "crowd.yaml"
    file.write_text(
        "name: crowd\nconfig: c.py\nobjective: {metric: acc/top1}\njob: {gpus: 2}\n"
        f"variants:\n{named}ladder: {{start: v0}}\n"
    )
    return read_sweep(file, folder)


def enqueue(sweep: Sweep, storage: Storage, per_variant: int) -> None:
    """Register a sweep, and have so many recipes of each variant wait."""
    register(sweep, storage, {name: recipe_of(v, HASH) for name, v in sweep.variants.items()})
    with storage.engine.begin() as connection:
        query = sa.select(trials.c.variant, optuna_trials.c.study_id).join_from(
            trials, optuna_trials, trials.c.trial_id == optuna_trials.c.trial_id
        )
        mine = query.where(trials.c.sweep == sweep.name)
        studies = {variant: study for variant, study in connection.execute(mine)}
        last = sa.select(sa.func.max(trials.c.number)).where(trials.c.sweep == sweep.name)
        first = 1 + int(connection.scalar(last) or 0)
        numbers = range(first, per_variant)
        more = [
            {"study_id": study, "number": n, "state": "WAITING"}
            for study in studies.values()
            for n in numbers
        ]
        if not more:
            return
        connection.execute(sa.insert(optuna_trials), more)
        ids = sa.select(optuna_trials.c.study_id, optuna_trials.c.number, optuna_trials.c.trial_id)
        mine = optuna_trials.c.study_id.in_(studies.values()) & (optuna_trials.c.number >= first)
        found = {(s, n): i for s, n, i in connection.execute(ids.where(mine))}
        facts = {"recipe_hash": HASH, "phase": "waiting", "attempt": 0, "epoch": 0, "seconds": 0.0}
        rows = [
            {"trial_id": found[s, n], "sweep": sweep.name, "variant": v, "number": n, **facts}
            for v, s in studies.items()
            for n in numbers
        ]
        connection.execute(sa.insert(trials), rows)


def finish_all(sweep: Sweep, storage: Storage, epochs: int, running: int) -> None:
    """End every trial with a curve and a few verdicts, all but the last `running` ones."""
    step = (
        "generate_series(1, :epochs) AS s(step)"
        if storage.sqlite_file is None
        else "(WITH RECURSIVE s(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM s WHERE step < "
        ":epochs) SELECT step FROM s) AS s"
    )
    verdict = {"epoch": 1, "top1": 0.884, "verdict": "watch", "rule": "epoch 1 target"}
    verdicts = [{**verdict, "reason": "top-1 88.40 % is under the target 88.50 %", "next": None}]
    values = {
        "host": "node7/1",
        "boot_id": "b",
        "pid": 1,
        "proc_start": 1,
        "gpus": "0,1",
        "run_dir": sa.literal("runs/crowd/") + trials.c.variant + "/" + _text(trials.c.number),
        "attempt": 1,
        "epoch": epochs,
        "last_top1": 0.9,
        "best_top1": 0.8 + trials.c.trial_id / 1e6,
        "best_epoch": epochs,
        "lr": 1e-5,
        "seconds": 27_000.0,
        "reason": "All 30 epochs are done.",
        "verdicts": verdicts,
        "facts": {"epochs": epochs, "nproc": 2, "seed": 0, "data": {"store": "video"}},
    }
    mine = trials.c.sweep == sweep.name
    late = sa.select(trials.c.trial_id).where(mine).order_by(trials.c.trial_id.desc())
    late = late.limit(running)
    with storage.engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO trial_intermediate_values "
                "(trial_id, step, intermediate_value, intermediate_value_type) "
                f"SELECT t.trial_id, s.step, 0.8 + 0.003 * s.step, 'FINITE' FROM trials t, {step} "
                "WHERE true ON CONFLICT DO NOTHING"
            ),
            {"epochs": epochs},
        )
        connection.execute(sa.update(trials).where(mine).values(phase="done", **values))
        connection.execute(sa.update(optuna_trials).values(state="COMPLETE"))
        live = {"phase": "running", "token": "t", "renewed_at": time.time() + 1e6}
        connection.execute(sa.update(trials).where(trials.c.trial_id.in_(late)).values(**live))
        running_ids = optuna_trials.c.trial_id.in_(late)
        connection.execute(sa.update(optuna_trials).where(running_ids).values(state="RUNNING"))


def _text(column: sa.Column[int]) -> sa.ColumnElement[str]:
    return sa.cast(column, sa.String)


@dataclasses.dataclass
class Worker:
    """A launch with one slot on a host of its own, as far as the storage knows it."""

    me: ProcessIdentity
    due: float
    lease: Lease | None = None
    history: list[Measurement] = dataclasses.field(default_factory=list)


class Crowd:
    """Workers that run all waiting trials of a sweep.

    After `run`, `ended` counts how often each trial was ended, `seconds` holds how long each
    kind of call took.

    Args:
        connections: threads, each with a connection of its own.
        epoch_s: how long a simulated epoch lasts; workers begin within the first.
    """

    def __init__(
        self, sweep: Sweep, url: str, workers: int, connections: int, epochs: int, epoch_s: float
    ) -> None:
        self.ended: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {"claim": [], "report": [], "tell": []}
        self._sweep, self._url, self._epochs, self._epoch_s = sweep, url, epochs, epoch_s
        self._wanted = [
            ClaimRequest(variant=v, trials=10**6, recipe_hash=HASH) for v in sweep.variants
        ]
        self._workers, self._connections = workers, connections
        self._errors: list[BaseException] = []

    def run(self) -> None:
        """Run until no trial waits."""
        shares = [self._workers // self._connections] * self._connections
        for i in range(self._workers % self._connections):
            shares[i] += 1
        threads = [threading.Thread(target=self._play, args=(share,)) for share in shares]
        before = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)  # they stand for processes, which share no interpreter
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
        if self._errors:
            raise self._errors[0]

    def _play(self, count: int) -> None:
        """Let some workers take turns on one connection."""
        storage = open_storage(self._url, Path())
        begun = time.monotonic()
        due = [begun + self._epoch_s * i / count for i in range(count)]
        workers = [Worker(_owner(), at) for at in due]
        try:
            while workers:
                worker = min(workers, key=lambda one: one.due)
                time.sleep(max(0.0, worker.due - time.monotonic()))
                if not self._turn(worker, storage):
                    workers.remove(worker)
        except BaseException as error:
            self._errors.append(error)
        finally:
            storage.close()

    def _turn(self, worker: Worker, storage: Storage) -> bool:
        """Do one thing that a launch does; False when nothing is left for this worker."""
        if worker.lease is None:
            worker.lease = self._timed(
                "claim", claim, self._sweep, storage, self._wanted, worker.me
            )
            worker.history = []
            worker.due = time.monotonic() + self._epoch_s
            return worker.lease is not None
        if len(worker.history) < self._epochs:
            epoch = len(worker.history) + 1
            worker.history.append(Measurement(epoch=epoch, top1=epoch / 100, lr=1e-3))
            self._timed("report", worker.lease.report, worker.history, [])
            worker.due = time.monotonic() + self._epoch_s * (epoch < self._epochs)
            return True
        why = {"cause": None, "reason": "done", "verdicts": [], "seconds": 1.0}
        self._timed("tell", worker.lease.tell, "COMPLETE", worker.history, **why)
        self.ended[worker.lease.name] += 1
        worker.lease = None
        return True

    def _timed(self, kind: str, call, *args, **kwargs):
        begun = time.perf_counter()
        answer = call(*args, **kwargs)
        self.seconds[kind].append(time.perf_counter() - begun)
        return answer


_hosts = itertools.count()


def _owner() -> ProcessIdentity:
    return dataclasses.replace(this_process(), host=f"node{next(_hosts)}/1")


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
