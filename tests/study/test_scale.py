"""Thousands of trials cost no more than a few: claims, reports, and the commands that look."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

import simulated_workers
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import open_storage
from pipeline.study.trial_rows import read_board

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
slow, sample, engine = pytest.mark.slow, pytest.mark.sample, pytest.mark.engine


def run_crowd(folder: Path, url: str, trials: int, workers: int, connections: int, epoch_s: float):
    """Let a crowd run every trial; each must end once, with every epoch, in Optuna's tables."""
    sweep = simulated_workers.write_sweep(folder, variants=10)
    storage = open_storage(url, folder)
    simulated_workers.enqueue(sweep, storage, trials // 10)
    many = simulated_workers.Crowd(sweep, url, workers, connections, EPOCHS, epoch_s)
    many.run()
    for kind, seconds in many.seconds.items():
        p50, p95 = (1000 * simulated_workers.percentile(seconds, share) for share in (0.5, 0.95))
        print(f"{kind}: {len(seconds)} calls, p50 {p50:.1f} ms, p95 {p95:.1f} ms")
    assert len(many.ended) == trials and set(many.ended.values()) == {1}
    rows = read_board(sweep.name, storage)
    assert {(r.state, r.phase, r.attempt, r.epoch) for r in rows} == {
        ("COMPLETE", "done", 1, EPOCHS)
    }
    counted = storage.read(
        "SELECT count(*) AS n, count(DISTINCT trial_id) AS t FROM trial_intermediate_values"
    )
    assert (counted[0]["n"], counted[0]["t"]) == (trials * EPOCHS, trials)
    storage.close()


@slow
@engine
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("trials", [pytest.param(500, marks=sample), 5_000])
def test_200_workers_run_every_trial_once_on_postgresql(
    tmp_path: Path, postgres, trials: int
) -> None:
    url = postgres.url(postgres.fresh(f"crowd{trials}"))
    run_crowd(tmp_path, url, trials, workers=200, connections=16, epoch_s=2.0)


@slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("trials", [500, 5_000])
def test_50_workers_run_every_trial_once_on_sqlite(tmp_path: Path, trials: int) -> None:
    url = f"sqlite:///{tmp_path}/crowd.db"
    run_crowd(tmp_path, url, trials, workers=50, connections=4, epoch_s=0.5)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=engine)])
def test_a_claim_and_a_report_take_as_many_statements_among_2000_trials_as_among_20(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/crowd.db"
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.url(server.fresh("flat"))
    sweep = simulated_workers.write_sweep(tmp_path, variants=2)
    storage = open_storage(url, tmp_path)
    counts = []
    for trials in (20, 2_000):
        simulated_workers.enqueue(sweep, storage, trials // 2)
        counts.append(statements_of_a_trial(sweep, storage))
    storage.close()
    assert counts[0] == counts[1]
    assert counts[0] == {"claim": 5, "report": 2, "tell": 6}


def statements_of_a_trial(sweep, storage) -> dict[str, int]:
    """Claim, report and end one trial; return how many statements each took."""
    made: list[str] = []

    def note(*words: object) -> None:
        made.append(str(words[2]))

    counts = {}
    sa.event.listen(storage.engine, "before_cursor_execute", note)
    try:
        wanted = [
            ClaimRequest(variant=v, trials=10**6, recipe_hash=simulated_workers.HASH)
            for v in sweep.variants
        ]
        lease = claim(sweep, storage, wanted)
        counts["claim"] = _count(made)
        assert lease is not None
        history = [Measurement(epoch=1, top1=0.5)]
        lease.report(history, [])
        counts["report"] = _count(made)
        why = {"cause": None, "reason": "", "verdicts": [], "seconds": 1.0}
        lease.tell("COMPLETE", history, **why)
        counts["tell"] = _count(made)
    finally:
        sa.event.remove(storage.engine, "before_cursor_execute", note)
    return counts


def _count(made: list[str]) -> int:
    """Return how many statements were made since the last count, without transactions' own."""
    count = sum(not text.startswith(("BEGIN", "PRAGMA")) for text in made)
    made.clear()
    return count


def test_the_commands_that_look_at_2000_trials_load_no_study_and_stay_small(
    tmp_path: Path,
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "wandb.yaml").write_text((ROOT / "wandb.yaml").read_text())
    url = f"sqlite:///{tmp_path}/crowd.db"
    sweep = simulated_workers.write_sweep(tmp_path / "sweeps", variants=10)
    storage = open_storage(url, tmp_path)
    simulated_workers.enqueue(sweep, storage, 200)
    simulated_workers.finish_all(sweep, storage, epochs=30, running=200)
    storage.close()
    program = (
        "import sys\nfrom pipeline.cli.main import main\n"
        "sys.argv = ['pcan', 'sweep', sys.argv[1], 'crowd', '--json']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('optuna' in sys.modules, file=sys.stderr)\n"
        # Not ru_maxrss, which begins with what the process that started this one held.
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PCAN_STORAGE": url}
    for command in ("status", "watch", "best", "compare"):
        done = subprocess.run(
            [sys.executable, "-c", program, command],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        loaded, kilobytes = done.stderr.splitlines()[-2:]
        assert loaded == "False", command
        assert int(kilobytes) / 1024 < 300, command
