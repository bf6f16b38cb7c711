"""One launcher, one trial: registering, claiming and fencing on a real database."""

import dataclasses
import multiprocessing
from pathlib import Path

import optuna
import pytest

from pipeline.errors import InputError
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, busy, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.lease import LeaseLost
from pipeline.study.owner import ProcessIdentity, this_process
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_rows import read_board

VARIANTS = "".join(f"  v{i}: {{set: {{lr: 1e-3}}, space: {{}}}}\n" for i in range(8))
TEXT = (
    "name: many\nconfig: c.py\nobjective: {metric: acc/top1}\nvariants:\n"
    + VARIANTS
    + "  searched: {set: {lr: 1e-3}, space: {lr: {low: 1e-4, high: 1e-2, log: true}}}\n"
    "ladder: {start: v0}\n"
)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "s.yaml").write_text(TEXT)
    return read_sweep(tmp_path / "s.yaml", tmp_path)


@pytest.fixture
def storage(tmp_path: Path, sweep: Sweep):
    storage = open_storage(None, tmp_path / "runs")
    register_all(sweep, storage)
    yield storage
    storage.close()


def register_all(sweep: Sweep, storage: Storage, digest: str = "h") -> list[object]:
    recipes = {name: recipe_of(v, digest) for name, v in sweep.variants.items()}
    return list(register(sweep, storage, recipes))


def want(*variants: str, trials: int = 1, digest: str = "h") -> list[ClaimRequest]:
    return [ClaimRequest(variant=v, trials=trials, recipe_hash=digest) for v in variants]


def dead() -> ProcessIdentity:
    return dataclasses.replace(this_process(), proc_start=1)


def test_registering_twice_enqueues_each_recipe_once(sweep: Sweep, storage: Storage) -> None:
    register_all(sweep, storage)
    rows = read_board("many", storage)
    assert [(r.name, r.state, r.phase) for r in rows if r.variant == "v0"] == [
        ("v0/0", "WAITING", "waiting")
    ]
    assert len(rows) == len(sweep.variants)


def _claim_all(url: str, path: str, barrier, results) -> None:
    sweep = read_sweep(Path(path), Path(path).parent)
    storage = Storage(url)
    names = [name for name in sweep.variants if name != "searched"]
    barrier.wait()
    while (lease := claim(sweep, storage, want(*names))) is not None:
        results.put(lease.name)
        lease.tell("FAIL", [], cause="test", reason="", verdicts=[], seconds=0)
    results.put(None)


def test_every_trial_goes_to_exactly_one_of_four_launchers(sweep: Sweep, storage: Storage) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_claim_all, args=(storage.url, str(sweep.path), barrier, results))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    taken, ended = [], 0
    while ended < 4:
        item = results.get(timeout=240)
        ended += item is None
        taken += [item] if item else []
    for worker in workers:
        worker.join()
    assert sorted(taken) == [f"v{i}/0" for i in range(8)]


def test_a_running_trial_is_not_claimed_twice(sweep: Sweep, storage: Storage) -> None:
    lease = claim(sweep, storage, want("v0"))
    assert lease is not None and lease.name == "v0/0"
    assert claim(sweep, storage, want("v0")) is None
    assert [b.variant for b in busy(sweep, storage, ["v0"])] == ["v0"]


def test_a_dead_owners_trial_is_taken_up_as_the_same_trial(sweep: Sweep, storage: Storage) -> None:
    first = claim(sweep, storage, want("v0"), me=dead())
    assert first is not None
    first.report([Measurement(epoch=1, top1=0.5)], [])
    assert read_board("many", storage)[0].phase == "interrupted"
    second = claim(sweep, storage, want("v0"))
    assert second is not None
    assert (second.name, second.attempt, second.previous["epoch"]) == ("v0/0", 2, 1)


def test_an_owner_that_was_replaced_can_write_no_result(sweep: Sweep, storage: Storage) -> None:
    first = claim(sweep, storage, want("v0"), me=dead())
    second = claim(sweep, storage, want("v0"))
    assert first is not None and second is not None
    history = [Measurement(epoch=1, top1=0.9)]
    with pytest.raises(LeaseLost):
        first.report(history, [])
    with pytest.raises(LeaseLost):
        first.tell("COMPLETE", history, cause=None, reason="", verdicts=[], seconds=1)
    second.tell("COMPLETE", history, cause=None, reason="", verdicts=[], seconds=1)
    row = read_board("many", storage)[0]
    assert (row.state, row.phase) == ("COMPLETE", "done")


def test_a_pid_that_was_given_to_another_process_is_dead(sweep: Sweep, storage: Storage) -> None:
    reused = dataclasses.replace(this_process(), pid=1, proc_start=1)
    assert claim(sweep, storage, want("v0"), me=reused) is not None
    assert claim(sweep, storage, want("v0")) is not None


def test_an_earlier_boots_lease_is_dead(sweep: Sweep, storage: Storage) -> None:
    before = dataclasses.replace(this_process(), boot_id="another-boot")
    assert claim(sweep, storage, want("v0"), me=before) is not None
    assert claim(sweep, storage, want("v0")) is not None


def test_another_hosts_lease_holds_until_it_runs_out(
    sweep: Sweep, storage: Storage, monkeypatch
) -> None:
    from pipeline.study.tables import trials

    away = dataclasses.replace(this_process(), host="elsewhere/1", pid=1)
    assert claim(sweep, storage, want("v0"), me=away) is not None
    assert claim(sweep, storage, want("v0")) is None
    with storage.engine.begin() as connection:
        connection.execute(trials.update().values(renewed_at=storage.now() - 1000))
    assert claim(sweep, storage, want("v0")) is None  # watched first
    monkeypatch.setattr("pipeline.study.claim.TAKEOVER_CONFIRM_S", 0.0)
    assert claim(sweep, storage, want("v0")) is not None


def test_the_recipe_comes_first_and_then_the_space(sweep: Sweep, storage: Storage) -> None:
    recipe = claim(sweep, storage, want("searched", trials=2))
    drawn = claim(sweep, storage, want("searched", trials=2))
    assert recipe is not None and drawn is not None
    assert not recipe.searched and recipe.params == {"lr": 0.001}
    assert drawn.searched and 1e-4 <= drawn.params["lr"] <= 1e-2
    assert claim(sweep, storage, want("searched", trials=2)) is None
    import optuna

    study = optuna.load_study(study_name="many/searched", storage=storage.rdb)
    assert study.trials[0].params == {"lr": 0.001}


def test_a_changed_recipe_makes_a_new_trial(sweep: Sweep, storage: Storage) -> None:
    lease = claim(sweep, storage, want("v0"))
    assert lease is not None
    lease.tell("PRUNED", [], cause="gate", reason="low", verdicts=[], seconds=1)
    register_all(sweep, storage, digest="changed")
    rows = [r for r in read_board("many", storage) if r.variant in ("v0", "v1")]
    assert [(r.name, r.state, r.cause) for r in rows] == [
        ("v0/0", "PRUNED", "gate"),
        ("v0/1", "WAITING", None),
        ("v1/0", "FAIL", "superseded"),
        ("v1/1", "WAITING", None),
    ]


def test_another_metric_is_refused(sweep: Sweep, storage: Storage) -> None:
    objective = sweep.objective.model_copy(update={"metric": "acc/other"})
    with pytest.raises(InputError, match='made for the metric "acc/top1"'):
        register_all(sweep.model_copy(update={"objective": objective}), storage)


@pytest.mark.parametrize(
    ("directions", "reported"),
    [
        (["minimize"], "is to minimize, a"),
        (["maximize", "minimize"], "is to maximize and minimize"),
    ],
)
def test_a_study_of_another_aim_is_refused(
    sweep: Sweep, storage: Storage, directions: list[str], reported: str
) -> None:
    other = sweep.model_copy(update={"name": "others"})
    optuna.create_study(storage=storage.rdb, study_name="others/v0", directions=directions)
    with pytest.raises(InputError, match=reported):
        register_all(other, storage)


def test_a_changed_gate_is_recorded_with_its_date(sweep: Sweep, storage: Storage) -> None:
    from pipeline.plan.sweep import Patience

    v0 = sweep.variants["v0"].model_copy(update={"patience": Patience(epochs=3, min_delta=0.0)})
    changed = sweep.model_copy(update={"variants": {**sweep.variants, "v0": v0}})
    register_all(changed, storage)
    stored = {s.study_name: s for s in storage.rdb.get_all_studies()}["many/v0"]
    history = stored.user_attrs["pcan"]["history"]
    assert history[-1]["changed"] == ["patience"]


def test_a_study_that_was_deleted_in_optuna_can_be_registered_again(
    sweep: Sweep, storage: Storage
) -> None:
    lease = claim(sweep, storage, want("v7"))
    assert lease is not None
    for name in ("many/searched", "many/v7"):
        storage.rdb.delete_study(storage.rdb.get_study_id_from_name(name))
    with pytest.raises(InputError, match=r"v7/0 of many is run by pid \d+ .*pcan doctor many --r"):
        register_all(sweep, storage)
    lease.release("interrupted", cause="interrupted", reason="asked to", seconds=0)
    register_all(sweep, storage)
    assert len(read_board("many", storage)) == len(sweep.variants)
    again = claim(sweep, storage, want("v7"))
    assert again is not None and (again.name, again.attempt) == ("v7/0", 1)
