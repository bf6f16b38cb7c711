"""Lines are chosen on one part of the clips and read on the other; luck alone wins nothing."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.refine.crosswise import halves, person_in, read_crosswise
from pipeline.refine.lines import Ensemble, FusedReadings, GreedySoup, Line, OneOf, fixed, tune
from pipeline.refine.recipes import ClipReading, Weights
from pipeline.report.stats.kept_scores import SHARES, BranchScores, ratio_curve
from pipeline.shared.fusion import fuse, guesses

FOLDER = Path("run")


def weights(number: int) -> Weights:
    return Weights(trial=f"t/{number}", folder=FOLDER, epoch=1)


def drawn(rng: np.random.Generator, labels: np.ndarray, skill: float, pose: float = 0.0):
    """Return scores whose branches know the label by so much."""
    tables = {}
    for name, known in (("rgb", skill), ("pose", pose)):
        logits = rng.normal(size=(len(labels), 10))
        logits[np.arange(len(labels)), labels] += known
        tables[name] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"clip{i}" for i in range(len(labels))]
    return BranchScores(
        epoch=1, metric="acc/RGBPose_1:1_top1", top1=None, ids="x", labels=labels,
        names=names, people=[""] * len(labels), branches=tables,
    )  # fmt: skip


def all_lines(rng: np.random.Generator, clips: int, skill: float, better: float = 0.0):
    """Return every kind of line over scores that are equally good, but for the last trial's."""
    labels = rng.integers(0, 10, clips)
    members = [weights(i) for i in range(4)]
    known: dict[ClipReading, BranchScores] = {}

    def scores(reading: ClipReading) -> BranchScores:
        more = better if reading.weights[0].trial == "t/3" else 0.0
        return known.setdefault(reading, drawn(rng, labels, skill + more, skill))

    fused = FusedReadings(scores, labels, 0.5)
    plain = ClipReading(weights=(members[0],))
    kinds = {
        "plain": fixed(plain),
        "clips": fixed(ClipReading(weights=(members[0],), clips=10)),
        "flip": fixed(ClipReading(weights=(members[0],), flip=True)),
        "last_k": OneOf(fused, [ClipReading(weights=tuple(members[:k])) for k in (2, 3)]),
        "soup": GreedySoup(fused, members),
        "ensemble": Ensemble(fused, members),
    }
    lines = [
        Line(name=name, fused=fused, select=select, tuned=tuned)
        for name, select in kinds.items()
        for tuned in (False, True)
    ]
    return lines, labels, scores


def test_on_random_scores_almost_nothing_is_called_better() -> None:
    """200 validations on which no line is better: at most 5 % are called so."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(200):
        lines, labels, _ = all_lines(rng, 100, skill=0.0)
        first, _ = halves([str(i) for i in range(100)], [""] * 100)
        called += read_crosswise(lines, labels, first).better
    assert called <= 10


def test_a_line_that_is_better_is_chosen_and_read_without_luck() -> None:
    rng = np.random.default_rng(1)
    lines, labels, _ = all_lines(rng, 600, skill=1.0)
    judged = read_crosswise(lines, labels, halves([str(i) for i in range(600)], [""] * 600)[0])
    assert judged.better and judged.readings[judged.chosen].line.name == "ensemble"
    plain = judged.readings[0]
    assert plain.against.difference == 0 and plain.top1 == (plain.guess == labels).mean()


def test_each_reading_is_that_of_numpy_over_the_scores() -> None:
    rng = np.random.default_rng(2)
    lines, labels, scores = all_lines(rng, 200, skill=1.0)
    first, _ = halves([str(i) for i in range(200)], [""] * 200)
    for reading in read_crosswise(lines, labels, first).readings:
        recipe = reading.final.recipe
        tables = [scores(one).branches for one in recipe.readings]
        rgb, pose = (np.mean([t[b] for t in tables], axis=0) for b in ("rgb", "pose"))
        if recipe.ratio.log:
            rgb, pose = np.log(rgb), np.log(pose)
        joined = recipe.ratio.share * rgb + (1 - recipe.ratio.share) * pose
        assert (reading.final.guess == joined.argmax(axis=1)).all()


def test_the_other_part_alone_decides_what_is_read() -> None:
    """Labels of the first part are changed: its own reading's choice must not follow them."""
    rng = np.random.default_rng(3)
    lines, labels, _ = all_lines(rng, 200, skill=0.5)
    first, _ = halves([str(i) for i in range(200)], [""] * 200)
    before = [line.choose(~first).guess for line in lines]
    labels[first] = rng.integers(0, 10, first.sum())
    after = [line.choose(~first).guess for line in lines]
    assert all((a == b)[first].all() for a, b in zip(before, after, strict=True))


def test_the_ratio_curve_is_the_accuracy_at_each_share() -> None:
    rng = np.random.default_rng(4)
    found = drawn(rng, rng.integers(0, 10, 300), 1.0, 0.5)
    curve = ratio_curve(found)
    assert curve is not None
    for share, top1 in zip(curve["share"], curve["top1"], strict=True):
        joined = share * found.branches["rgb"] + (1 - share) * found.branches["pose"]
        assert top1 == pytest.approx((joined.argmax(1) == found.labels).mean())


def right(*counts: int, log: int = 0) -> np.ndarray:
    """Return a grid in which the i-th share has so many right of 10 clips, others none."""
    grid = np.zeros((2, len(SHARES), 10), dtype=bool)
    for i, count in enumerate(counts):
        grid[0, i, :count] = True
    grid[1, 5, :log] = True
    return grid


def test_of_a_flat_optimum_the_middle_is_taken_and_its_ends_said() -> None:
    everything = np.ones(10, dtype=bool)
    ratio = tune(right(1, 8, 8, 8, 2), everything, own_share=0.5)
    assert (ratio.share, ratio.flat, ratio.log) == (SHARES[2], (SHARES[1], SHARES[3]), False)
    own = tune(right(1, 8, 8, 8, 2), everything, own_share=SHARES[3])
    assert own.share == SHARES[3] and own.flat == (SHARES[1], SHARES[3])
    assert tune(right(1, 8, log=9), everything, own_share=0.5).log


def test_a_single_branch_has_no_ratio_and_probabilities_become_logs() -> None:
    table = np.array([[0.2, 0.8], [0.7, 0.3]])
    assert (fuse({"score": table}, 0.3) == table).all()
    logs = fuse({"rgb": table, "pose": table}, 0.5, log=True)
    assert np.allclose(logs, np.log(table)) and guesses(logs).tolist() == [1, 0]


def test_parts_share_no_person_where_names_tell_who_is_seen() -> None:
    names = [f"S001C001P{p:03d}R001A{a:03d}" for p in range(6) for a in range(5)]
    first, how = halves(names, [""] * 30)
    inside = [{person_in(names[i]) for i in np.flatnonzero(mask)} for mask in (first, ~first)]
    assert how == "6 people" and not inside[0] & inside[1]
    assert first.sum() == 15 and person_in("a13_s7_t1") == "s7"
    named, how = halves(["x", "y", "z"], ["anna", "ben", "anna"])
    assert how == "2 people" and named.tolist() in ([True, False, True], [False, True, False])


def test_without_people_a_digest_cuts_the_clips_alike_everywhere() -> None:
    names = [f"clip{i}" for i in range(9)]
    first, how = halves(names, [""] * 9)
    assert how == "a digest of each clip's name" and first.sum() == 5
    turned, _ = halves(names, [""] * 9)
    assert (first == turned).all()
