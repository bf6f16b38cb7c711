"""Eight launchers, a hundred trials: each is run exactly once and no report is lost."""

import multiprocessing
from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_rows import read_board

EPOCHS = 5
HEAD = "name: load\nconfig: c.py\nobjective: {metric: acc/top1}\nvariants:\n"


def write_sweep(folder: Path, trials: int) -> Path:
    variants = "".join(f"  v{i}: {{set: {{lr: 1e-3}}}}\n" for i in range(trials))
    file = folder / "load.yaml"
    file.write_text(f"{HEAD}{variants}ladder: {{start: v0}}\n")
    return file


def work(url: str, file: str, barrier, results) -> None:
    """A launcher whose jobs take no time: claim, report each epoch, tell."""
    sweep = read_sweep(Path(file), Path(file).parent)
    storage = Storage(url)
    wanted = [ClaimRequest(variant=name, trials=1, recipe_hash="h") for name in sweep.variants]
    barrier.wait()
    while (lease := claim(sweep, storage, wanted)) is not None:
        history = []
        for epoch in range(1, EPOCHS + 1):
            history.append(Measurement(epoch=epoch, top1=epoch / 10 + lease.trial_id / 1e4))
            lease.report(history, [])
        lease.tell("COMPLETE", history, cause=None, reason="", verdicts=[], seconds=1)
        results.put(lease.name)
    storage.close()
    results.put(None)


def run_all(url: str, folder: Path, launchers: int, trials: int) -> None:
    file = write_sweep(folder, trials)
    sweep = read_sweep(file, folder)
    storage = open_storage(url, folder)
    register(sweep, storage, {name: recipe_of(v, "h") for name, v in sweep.variants.items()})
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(launchers), context.Queue()
    workers = [
        context.Process(target=work, args=(url, str(file), barrier, results))
        for _ in range(launchers)
    ]
    for worker in workers:
        worker.start()
    done, ended = [], 0
    while ended < launchers:
        item = results.get(timeout=600)
        ended += item is None
        done += [item] if item else []
    for worker in workers:
        worker.join()
    assert sorted(done) == sorted(f"v{i}/0" for i in range(trials))
    rows = read_board("load", storage)
    assert {(row.state, row.attempt, row.epoch) for row in rows} == {("COMPLETE", 1, EPOCHS)}
    for study in storage.rdb.get_all_studies():
        (trial,) = storage.rdb.get_all_trials(study._study_id)
        assert sorted(trial.intermediate_values) == list(range(1, EPOCHS + 1))
        assert trial.value == pytest.approx(0.5 + trial._trial_id / 1e4)
    storage.close()


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.timeout(1800)
def test_eight_launchers_run_100_trials_once_each_on_sqlite(tmp_path: Path) -> None:
    run_all(f"sqlite:///{tmp_path}/load.db", tmp_path, launchers=8, trials=100)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_eight_launchers_run_100_trials_once_each_on_postgresql(tmp_path: Path, postgres) -> None:
    run_all(postgres.url(postgres.fresh("load")), tmp_path, launchers=8, trials=100)
