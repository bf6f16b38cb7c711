"""Repetitions and imported runs beside a plan's trials: who claims which, on both databases."""

from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.plan.search.rules import make_rule
from pipeline.plan.sweep import Search, Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.add_trial import add_repetition
from pipeline.study.best import best_row, eligible
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.import_trials import ImportedRun, add_finished
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_curves import read_standings
from pipeline.study.trial_rows import read_board

TEXT = (
    "name: NAME\nconfig: c.py\nobjective: {metric: acc/top1}\nvariants:\n"
    "  v: {set: {lr: 1e-3}, space: {lr: {low: 1e-4, high: 1e-2, log: true}}}\n"
    "ladder: {start: v}\n"
)
TOLD = {"cause": None, "reason": "done", "verdicts": [], "seconds": 1.0}
CURVE = tuple(Measurement(epoch=n, top1=n / 4) for n in (1, 2, 3))


class Killed(BaseException):
    """Stands for a process that is ended at this very call."""


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path: Path):
    """A sweep whose recipe has been run, on one kind of database."""
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_url") if postgres else None
    (tmp_path / "s.yaml").write_text(TEXT.replace("NAME", f"k-{tmp_path.name}"[:90]))
    sweep = read_sweep(tmp_path / "s.yaml", tmp_path)
    storage = open_storage(url, tmp_path / "runs")
    register(sweep, storage, {"v": recipe_of(sweep.variants["v"], "h")})
    end(claim(sweep, storage, [want()]), 0.5)
    yield sweep, storage
    storage.close()


def want(trials: int = 1, confirms: tuple[str, ...] = ()) -> ClaimRequest:
    return ClaimRequest(variant="v", trials=trials, recipe_hash="h", confirms=confirms)


def end(lease, top1: float) -> str:
    lease.begin("runs/s/v", "cpu", {k: v for k, v in (lease.previous["facts"] or {}).items()})
    lease.tell("COMPLETE", [Measurement(epoch=1, top1=top1)], **TOLD)
    return lease.name


def repeat(sweep: Sweep, storage: Storage, seed: int) -> int:
    row = next(r for r in read_board(sweep.name, storage) if r.name == "v/0")
    return add_repetition(sweep, storage, row, seed, {"by": "me"}, lambda number, uid: None)


def add(sweep: Sweep, storage: Storage, digest: str = "a", **changed) -> tuple[str, bool]:
    given = {"variant": "v", "params": {"lr": 2e-3}, "state": "COMPLETE", "cause": None, **changed}
    source = {"log": "x.log", "sha256": digest}
    run = ImportedRun(history=CURVE, reason="done", source=source, facts={"epochs": 3}, **given)
    return add_finished(sweep, storage, run, lambda number, uid: number != 1)


def test_a_launch_and_a_confirmation_each_get_their_own(place) -> None:
    sweep, storage = place
    assert [repeat(sweep, storage, seed) for seed in (1, 2)] == [1, 2]
    assert claim(sweep, storage, [want()]) is None
    drawn = claim(sweep, storage, [want(trials=2)])
    assert drawn.name == "v/3"
    names = [claim(sweep, storage, [want(confirms=("v/0",))]).name for _ in range(2)]
    assert names == ["v/1", "v/2"]
    assert claim(sweep, storage, [want(confirms=("v/0",))]) is None


def test_a_repetition_that_was_given_back_is_a_confirmations_again(place) -> None:
    sweep, storage = place
    repeat(sweep, storage, 1)
    lease = claim(sweep, storage, [want(confirms=("v/0",))])
    lease.begin("runs/s/v", "cpu", {"confirms": "v/0", "seed": 1})
    lease.release("interrupted", cause=None, reason="", seconds=1.0)
    assert claim(sweep, storage, [want()]) is None
    again = claim(sweep, storage, [want(confirms=("v/0",))])
    assert (again.name, again.attempt) == ("v/1", 2)


def test_a_search_compares_with_imported_runs_and_not_with_repetitions(place) -> None:
    sweep, storage = place
    repeat(sweep, storage, 1)
    end(claim(sweep, storage, [want(confirms=("v/0",))]), 0.9)
    name, _ = add(sweep, storage)
    rule = make_rule(Search(read="best"), 8)
    found = read_standings(sweep, "v", rule, storage)
    assert [one.number for one in found if one.readings] == [0, int(name.rpartition("/")[2])]


def test_a_repetition_cut_off_half_made_is_ended_by_the_next_that_draws(place) -> None:
    sweep, storage = place
    row = read_board(sweep.name, storage)[0]

    def killed(number: int, uid: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        add_repetition(sweep, storage, row, 1, {}, killed)
    assert [r.name for r in read_board(sweep.name, storage)] == ["v/0"]
    assert claim(sweep, storage, [want(trials=2)]).name == "v/2"


def test_an_imported_run_is_evidence_and_no_candidate(place) -> None:
    sweep, storage = place
    assert add(sweep, storage) == ("v/2", True)  # 1 belonged to another run directory
    assert add(sweep, storage) == ("v/2", False)
    assert add(sweep, storage, "b", variant="imported", params={}) == ("imported/0", True)
    rows = {r.name: r for r in read_board(sweep.name, storage)}
    found = rows["v/2"]
    assert (found.state, found.epoch, found.best_top1, found.imported) == (
        "COMPLETE",
        3,
        0.75,
        True,
    )
    assert [r.name for r in eligible(sweep, list(rows.values()))] == ["v/0"]
    assert best_row(sweep, list(rows.values())).name == "v/0"
    study_id = storage.rdb.get_study_id_from_name(f"{sweep.name}/v")
    trial = storage.rdb.get_all_trials(study_id)[2]
    assert (trial.params, trial.value) == ({"lr": 2e-3}, 0.75)
    assert trial.intermediate_values == {m.epoch: m.top1 for m in CURVE}
    drawn = claim(sweep, storage, [want(trials=2)])
    assert drawn.searched and drawn.name == "v/3"


@pytest.mark.parametrize(("state", "value"), [("PRUNED", 0.75), ("FAIL", None)])
def test_a_run_that_was_cut_short_or_failed_is_reported_as_that(place, state, value) -> None:
    sweep, storage = place
    name, _ = add(sweep, storage, state, state=state, cause="incomplete")
    study_id = storage.rdb.get_study_id_from_name(f"{sweep.name}/v")
    trial = storage.rdb.get_all_trials(study_id)[int(name.rpartition("/")[2])]
    assert (trial.state.name, trial.value) == (state, value)
