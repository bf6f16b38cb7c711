"""Repetitions on new seeds, on a real database: who gets them, what they count for, who wins."""

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, NoResult
from pipeline.launch.context import RunOrder
from pipeline.launch.control_files import audit_stamp
from pipeline.launch.scheduler import candidates, claimable, next_trials
from pipeline.manage.repeat import enqueue_confirmations, record_manual_choice
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.report.best.winner import find_winner
from pipeline.report.stats.repetitions import confirmation_record, confirmation_text
from pipeline.report.status.status_record import status_record
from pipeline.report.status.text import goal_line
from pipeline.shared.files import read_json, write_json
from pipeline.shared.measurement import Measurement
from pipeline.shared.rundir import RunDir
from pipeline.study.best import best_row, confirmations
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import open_storage
from pipeline.study.register import recipe_of, register
from pipeline.study.trial_rows import ended_recipes, read_board

TEXT = """\
name: s
config: c.py
objective: {metric: acc/top1, goal: 0.9}
variants:
  lucky: {set: {lr: 1e-3}, seed: 3, space: {lr: {low: 1e-4, high: 1e-2, log: true}}}
  steady: {set: {lr: 2e-3}, space: {}}
  poor: {set: {lr: 3e-3}, space: {}}
ladder: {start: lucky}
"""
HASHES = {"lucky": "h", "steady": "h", "poor": "h"}


class Place:
    """A project whose three recipes have been run: 92, 91 and 80 %."""

    def __init__(self, root: Path) -> None:
        (root / "s.yaml").write_text(TEXT)
        (root / "wandb.yaml").write_text("")
        self.project = Project(root=root)
        self.sweep = read_sweep(root / "s.yaml", root)
        self.storage = open_storage(None, root / "runs")
        recipes = {n: recipe_of(v, "h") for n, v in self.sweep.variants.items()}
        register(self.sweep, self.storage, recipes)
        for name, top1 in (("lucky", 0.92), ("steady", 0.91), ("poor", 0.80)):
            self.run(top1, ClaimRequest(variant=name, trials=1, recipe_hash="h"))

    @property
    def rows(self):
        return read_board("s", self.storage)

    def run(self, top1: float, *wanted: ClaimRequest, state: str = "COMPLETE"):
        lease = claim(self.sweep, self.storage, list(wanted))
        if lease is None:
            return None
        run = RunDir(self.project.runs / "s" / lease.variant / str(lease.number))
        run.root.mkdir(parents=True, exist_ok=True)
        known = read_json(run.spec) or {"seed": self.sweep.variants[lease.variant].seed}
        write_json(run.spec, {**known, "variant": lease.variant, "number": lease.number})
        write_json(run.facts, {"val_clips": 1000})
        run.config.write_text(f"# of {lease.variant}\n")
        facts = {k: known[k] for k in ("seed", "confirms") if known.get(k) is not None}
        lease.begin(str(run.root.relative_to(self.project.root)), "cpu", facts)
        reported = {"cause": None, "reason": "done", "verdicts": [], "seconds": 1.0}
        lease.tell(state, [Measurement(epoch=1, top1=top1)], **reported)
        return lease

    def confirm(self, count: int, seeds: int, values: dict[str, list[float]]) -> list[str]:
        names, _ = enqueue_confirmations(self.sweep, self.project, self.storage, count, seeds)
        for name, column in values.items():
            for value in column:
                variant = name.partition("/")[0]
                want = ClaimRequest(variant=variant, trials=1, recipe_hash="h", confirms=(name,))
                assert self.run(value, want) is not None
        return names


@pytest.fixture
def place(tmp_path: Path):
    made = Place(tmp_path)
    yield made
    made.storage.close()


def test_the_best_are_repeated_on_the_seeds_after_their_own(place) -> None:
    names, new = enqueue_confirmations(place.sweep, place.project, place.storage, 2, 2)
    assert (names, new) == (["lucky/0", "steady/0"], 4)
    runs = {row.name: row for row in place.rows if row.confirms}
    reported = {n: (r.confirms, r.facts["seed"], r.state, r.phase) for n, r in runs.items()}
    assert reported == {
        "lucky/1": ("lucky/0", 4, "RUNNING", "waiting"),
        "lucky/2": ("lucky/0", 5, "RUNNING", "waiting"),
        "steady/1": ("steady/0", 1, "RUNNING", "waiting"),
        "steady/2": ("steady/0", 2, "RUNNING", "waiting"),
    }
    new_dir = RunDir(place.project.runs / "s" / "lucky" / "1")
    spec = json.loads(new_dir.spec.read_text())
    assert (spec["confirms"], spec["seed"], spec["number"]) == ("lucky/0", 4, 1)
    assert new_dir.config.read_text() == "# of lucky\n"


def test_asking_again_adds_nothing_and_more_seeds_add_the_difference(place) -> None:
    ask = lambda seeds: enqueue_confirmations(  # noqa: E731
        place.sweep, place.project, place.storage, 2, seeds
    )[1]
    assert [ask(2), ask(2), ask(3), ask(1)] == [4, 0, 2, 0]
    assert [r.facts["seed"] for r in place.rows if r.confirms == "lucky/0"] == [4, 5, 6]


def test_neither_the_plan_nor_a_search_gets_or_counts_repetitions(place) -> None:
    enqueue_confirmations(place.sweep, place.project, place.storage, 2, 2)
    plan = next_trials(place.sweep, RunOrder(policy="all", trials=2), place.rows, HASHES)
    assert claimable(place.sweep, plan, place.rows, ())
    searched = claim(place.sweep, place.storage, plan.requests)
    assert (searched.name, searched.searched) == ("lucky/3", True)
    assert claim(place.sweep, place.storage, plan.requests) is None
    ended = ended_recipes(place.sweep, place.rows, HASHES)
    assert ended["lucky"].state == "COMPLETE"


def test_an_order_to_confirm_gets_nothing_else(place) -> None:
    names, _ = enqueue_confirmations(place.sweep, place.project, place.storage, 2, 1)
    order = RunOrder(confirms=tuple(names))
    assert candidates(place.sweep, order) == ["lucky", "steady"]
    plan = next_trials(place.sweep, order, place.rows, HASHES)
    assert claimable(place.sweep, plan, place.rows, ())
    claimed = [place.run(0.9, *plan.requests).name for _ in range(2)]
    assert claimed == ["lucky/1", "steady/1"] and place.run(0.9, *plan.requests) is None
    assert not claimable(place.sweep, plan, place.rows, ())


def test_the_winner_is_by_mean_once_confirmed(place) -> None:
    assert best_row(place.sweep, place.rows).name == "lucky/0"
    place.confirm(2, 2, {"lucky/0": [0.87, 0.88], "steady/0": [0.905, 0.907]})
    winner = find_winner(place.sweep, place.rows)
    assert (winner.row.name, winner.runner_up.name) == ("steady/0", "lucky/0")
    assert winner.reading == pytest.approx(0.906)
    record = confirmation_record(place.sweep, place.rows, place.project.root)
    assert [one["trial"] for one in record["trials"]] == ["steady/0", "lucky/0"]
    assert 0.97 < record["chance_best"] < 1
    lines = confirmation_text(record)
    assert lines[0] == (
        "steady/0: mean 90.60 % over 2 new seeds, spread 0.14 % (90.50, 90.70); "
        "first reading 91.00 % ± 0.90"
    )
    assert "The chance that steady/0 is the best of them over all seeds is 99 %" in lines[2]


def test_a_lucky_repetition_never_wins_by_itself(place) -> None:
    place.confirm(1, 2, {"lucky/0": [0.99, 0.80]})
    assert best_row(place.sweep, place.rows).name == "lucky/0"
    with_mean = status_record(place.sweep, place.project, place.storage)["best"]
    assert (with_mean["top1"], with_mean["confirmed"]["mean"]) == (0.92, pytest.approx(0.895))


def test_one_reading_does_not_displace_a_confirmed_mean_but_is_named(place) -> None:
    place.confirm(1, 2, {"lucky/0": [0.89, 0.90]})
    winner = find_winner(place.sweep, place.rows)
    assert (winner.row.name, winner.unconfirmed.name) == ("lucky/0", "steady/0")
    line = goal_line(status_record(place.sweep, place.project, place.storage))
    assert line == (
        "Goal 90.00 %. Best: lucky/0 with a mean of 89.50 % over 2 new seeds, spread 0.71 %: "
        "below the goal."
    )


def test_while_repetitions_are_out_the_readings_decide(place) -> None:
    place.confirm(2, 2, {"steady/0": [0.905, 0.907], "lucky/0": [0.85]})
    assert confirmations(place.rows)["lucky/0"].pending == 1
    assert best_row(place.sweep, place.rows).name == "steady/0"
    place.confirm(2, 2, {"lucky/0": [0.99]})
    assert best_row(place.sweep, place.rows).name == "lucky/0"


def test_a_repetition_that_failed_is_reported_and_not_counted(place) -> None:
    enqueue_confirmations(place.sweep, place.project, place.storage, 1, 2)
    want = ClaimRequest(variant="lucky", trials=1, recipe_hash="h", confirms=("lucky/0",))
    place.run(0.2, want, state="FAIL")
    place.run(0.9, want)
    found = confirmations(place.rows)["lucky/0"]
    assert (found.values, found.failed, found.spread) == ((0.9,), 1, None)
    text = confirmation_text(confirmation_record(place.sweep, place.rows, place.project.root))
    assert "mean 90.00 % over 1 new seed, spread unknown (90.00; 1 failed)" in text[0]


def test_what_cannot_be_repeated_is_refused_before_anything_is_enqueued(place) -> None:
    RunDir(place.project.runs / "s" / "steady" / "0").config.unlink()
    with pytest.raises(NoResult, match="steady/0 has no run directory here"):
        enqueue_confirmations(place.sweep, place.project, place.storage, 2, 2)
    assert not confirmations(place.rows)
    place.sweep.variants.pop("lucky")
    with pytest.raises(InputError, match="no longer has the variant lucky"):
        enqueue_confirmations(place.sweep, place.project, place.storage, 1, 2)


def test_a_trial_chosen_by_hand_is_on_record(place) -> None:
    row = next(r for r in place.rows if r.name == "poor/0")
    chosen = {**audit_stamp(), "instead_of": "lucky/0"}
    record_manual_choice(place.sweep, place.project, place.storage, row, chosen)
    record_manual_choice(place.sweep, place.project, place.storage, row, chosen)
    folder = place.project.runs / "s" / "poor" / "0"
    assert json.loads((folder / "chosen.json").read_text())["chosen"] == [chosen, chosen]
    record = status_record(place.sweep, place.project, place.storage)
    [study] = [s for s in record["studies"] if s["variant"] == "poor"]
    assert study["trials"][0]["chosen"] == [chosen, chosen]
