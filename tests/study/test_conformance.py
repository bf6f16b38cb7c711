"""What the storage promises, on SQLite and on PostgreSQL alike: claim, lease, report, tell.

Whatever we write is read back through Optuna itself, whose tables are the truth for others.
"""

import dataclasses
import math
import threading
import uuid
from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, busy, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.lease import LeaseLost
from pipeline.study.owner import this_process
from pipeline.study.register import recipe_of, register
from pipeline.study.tables import trials
from pipeline.study.trial_rows import read_board

TEXT = (
    "name: {name}\nconfig: c.py\nobjective: {{metric: acc/top1}}\nvariants:\n"
    "  a: {{set: {{lr: 1e-3}}}}\n  b: {{set: {{lr: 2e-3}}}}\n"
    "  s: {{set: {{lr: 1e-3, kind: x}}, space: {{lr: {{low: 1e-4, high: 1e-2, log: true}}, "
    "kind: {{choices: [x, y]}}}}}}\n"
    "ladder: {{start: a}}\n"
)
HISTORY = [Measurement(epoch=n, top1=n / 10, lr=0.1) for n in (1, 2, 3)]
WHY = {"cause": None, "reason": "done", "verdicts": [{"rule": "r"}], "seconds": 2.0}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep of a name of its own: one server serves all tests."""
    (tmp_path / "s.yaml").write_text(TEXT.format(name=f"c{uuid.uuid4().hex[:12]}"))
    return read_sweep(tmp_path / "s.yaml", tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.engine)])
def storage(request, tmp_path: Path, sweep: Sweep):
    server = request.param == "postgresql"
    url = request.getfixturevalue("postgres_url") if server else None
    opened = open_storage(url, tmp_path / "runs")
    register(sweep, opened, recipes(sweep))
    yield opened
    opened.close()


def recipes(sweep: Sweep, digest: str = "h"):
    return {name: recipe_of(v, digest) for name, v in sweep.variants.items()}


def want(*variants: str, trials: int = 1) -> list[ClaimRequest]:
    return [ClaimRequest(variant=v, trials=trials, recipe_hash="h") for v in variants]


def optuna_trial(storage: Storage, sweep: Sweep, variant: str, number: int = 0):
    import optuna

    study = optuna.load_study(study_name=f"{sweep.name}/{variant}", storage=storage.rdb)
    return study.trials[number]


def test_what_is_told_is_what_optuna_reads(storage: Storage, sweep: Sweep) -> None:
    lease = claim(sweep, storage, want("a"))
    assert lease is not None
    begun = optuna_trial(storage, sweep, "a")
    assert begun.state.name == "RUNNING" and begun.datetime_start is not None
    lease.begin("runs/x/a/0", "0,1", {"epochs": 3})
    lease.report(HISTORY[:2], [{"rule": "r"}])
    lease.report(HISTORY, [{"rule": "r"}])
    lease.tell("COMPLETE", HISTORY, **WHY)
    ended = optuna_trial(storage, sweep, "a")
    assert (ended.state.name, ended.value) == ("COMPLETE", 0.3)
    assert ended.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert {k: ended.user_attrs[k] for k in ("cause", "reason", "verdicts")} == {
        "cause": None,
        "reason": "done",
        "verdicts": [{"rule": "r"}],
    }
    assert ended.datetime_complete >= ended.datetime_start
    row = read_board(sweep.name, storage)[0]
    assert (row.phase, row.epoch, row.best_top1, row.lr) == ("done", 3, 0.3, 0.1)
    assert row.seconds == 2.0 and row.attempt == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_kept_as_what_it_is(
    storage: Storage, sweep: Sweep, value: float
) -> None:
    lease = claim(sweep, storage, want("a"))
    assert lease is not None
    history = [HISTORY[0], Measurement(epoch=2, top1=value)]
    lease.report(history, [])
    lease.tell("PRUNED", history, **WHY)
    ended = optuna_trial(storage, sweep, "a")
    assert str(ended.intermediate_values[2]) == str(value)
    assert (ended.state.name, ended.value) == ("PRUNED", None)


def test_a_recipe_has_its_values_and_a_drawn_trial_its_own(storage: Storage, sweep: Sweep) -> None:
    first = claim(sweep, storage, want("s", trials=3))
    drawn = [claim(sweep, storage, want("s", trials=3)) for _ in range(2)]
    assert first is not None and not first.searched
    assert optuna_trial(storage, sweep, "s").params == {"lr": 0.001, "kind": "x"}
    for number, lease in enumerate(drawn, start=1):
        assert lease is not None and lease.searched
        assert optuna_trial(storage, sweep, "s", number).params == lease.params
    assert claim(sweep, storage, want("s", trials=3)) is None


def test_a_replaced_owner_writes_nothing_anywhere(storage: Storage, sweep: Sweep) -> None:
    dead = dataclasses.replace(this_process(), proc_start=1)
    first = claim(sweep, storage, want("a"), me=dead)
    second = claim(sweep, storage, want("a"))
    assert first is not None and second is not None and second.attempt == 2
    for write in (
        lambda: first.report(HISTORY, []),
        lambda: first.tell("COMPLETE", HISTORY, **WHY),
        lambda: first.release("interrupted", cause=None, reason="", seconds=1),
        first.renew,
    ):
        with pytest.raises(LeaseLost):
            write()
    trial = optuna_trial(storage, sweep, "a")
    assert (trial.state.name, trial.intermediate_values) == ("RUNNING", {})
    second.tell("FAIL", HISTORY[:1], **WHY)
    assert optuna_trial(storage, sweep, "a").intermediate_values == {1: 0.1}


def test_what_was_given_back_is_taken_up_and_an_epoch_is_never_reported_twice(
    storage: Storage, sweep: Sweep
) -> None:
    first = claim(sweep, storage, want("a"))
    assert first is not None
    first.report(HISTORY[:2], [])
    first.release("interrupted", cause="interrupted", reason="stop", seconds=1)
    assert read_board(sweep.name, storage)[0].phase == "interrupted"
    second = claim(sweep, storage, want("a"))
    assert second is not None and second.attempt == 2 and second.previous["epoch"] == 2
    second.report([Measurement(epoch=1, top1=0.9), *HISTORY[1:]], [])
    assert optuna_trial(storage, sweep, "a").intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_the_lease_runs_by_the_databases_clock(
    storage: Storage, sweep: Sweep, monkeypatch
) -> None:
    away = dataclasses.replace(this_process(), host="elsewhere/1", pid=1)
    assert claim(sweep, storage, want("a"), me=away) is not None
    assert claim(sweep, storage, want("a")) is None
    assert [b.lapsed for b in busy(sweep, storage, ["a"])] == [False]
    late = trials.update().where(trials.c.sweep == sweep.name)
    with storage.engine.begin() as connection:
        connection.execute(late.values(renewed_at=storage.now() - 1000))
    assert [b.lapsed for b in busy(sweep, storage, ["a"])] == [True]
    assert claim(sweep, storage, want("a")) is None  # watched first
    monkeypatch.setattr("pipeline.study.claim.TAKEOVER_CONFIRM_S", 0.0)
    assert claim(sweep, storage, want("a")) is not None


def test_claims_at_the_same_moment_get_different_trials(storage: Storage, sweep: Sweep) -> None:
    barrier, taken = threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        lease = claim(sweep, storage, want("a", "b"))
        taken.append(lease.name if lease else None)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(name for name in taken if name) == ["a/0", "b/0"]


def test_a_withdrawn_recipe_is_not_claimed(storage: Storage, sweep: Sweep) -> None:
    register(sweep, storage, recipes(sweep, digest="changed"))
    assert claim(sweep, storage, want("a")) is None
    states = [(r.name, r.state) for r in read_board(sweep.name, storage) if r.variant == "a"]
    assert states == [("a/0", "FAIL"), ("a/1", "WAITING")]
