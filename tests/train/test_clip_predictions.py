"""What validation keeps of each clip: whole, in order, without padding, and only if it is true."""

import array
import json
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.shared.clip_scores import ClipScores
from pipeline.shared.files import append_line
from pipeline.shared.measurement import Measurement
from pipeline.shared.predictions import Predictions
from pipeline.shared.rundir import RunDir

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmengine's, and torch's of its own
    from mmengine.dataset import DefaultSampler

    from pipeline.train import keep_predictions
    from pipeline.train.partial_scores import PartialScores

import tiny_run

#: 31 clips on two ranks: the sampler pads the second rank with the first clip.
ODD = {"val_dataloader.dataset.length": 31}


def kept(rundir):
    files = sorted(rundir.predictions.glob("epoch_*"))
    return {f.name: Predictions.from_bytes(f.read_bytes()) for f in files}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    rundir = tiny_run.make_run(tmp_path_factory.mktemp("jobs") / "two", ODD)
    assert tiny_run.run_ranks(rundir) == [0, 0], tiny_run.logs(rundir)
    return rundir


def test_the_best_and_the_newest_epochs_are_kept(two_ranks):
    measured = two_ranks.read_measurements()
    best = max(measured, key=lambda m: (m.top1, -m.epoch)).epoch
    assert set(kept(two_ranks)) == {f"epoch_{e}.bin" for e in {3, 4, best}}


def test_the_predictions_are_those_that_were_measured(two_ranks):
    labels = np.random.RandomState(1).randint(0, 2, 31).tolist()  # as TinyDataset draws them
    top1 = {m.epoch: m.top1 for m in two_ranks.read_measurements()}
    for found in kept(two_ranks).values():
        assert set(found.columns) == {"rgb", "pose"} and found.classes == 2
        assert found.labels.tolist() == labels and found.metric == "acc/RGBPose_1:1_top1"
        right = np.mean(np.array(found.predicted) == np.array(found.labels))
        assert (
            right == pytest.approx(top1[found.epoch], abs=1e-9) and found.top1 == top1[found.epoch]
        )


def test_a_dictated_metric_leaves_no_file_but_the_reason(tmp_path):
    overrides = {**ODD, "val_evaluator.top1": [0.4], "train_cfg.max_epochs": 1}
    rundir = tiny_run.make_run(tmp_path / "told", overrides, nproc=1)
    assert tiny_run.run_alone(rundir) == 0, tiny_run.logs(rundir)
    assert not rundir.predictions.exists()
    facts = json.loads(rundir.facts.read_text())
    assert "of 31 predictions are right, which is not the measured 0.4" in facts["no_predictions"]
    assert facts["val_clips"] == 31


def test_a_file_is_small_and_comes_back_whole():
    rng = np.random.default_rng(0)
    labels = array.array("H", rng.integers(0, 60, 16487).tolist())
    guessed = rng.integers(0, 60, 16487)
    predicted = array.array("H", np.where(rng.random(16487) < 0.89, labels, guessed).tolist())
    columns = {"rgb": predicted, "true_coarse": labels}
    made = Predictions(10, "acc/top1", 0.89, "ab", predicted, labels, 60, columns)
    assert Predictions.from_bytes(made.to_bytes()) == made
    assert len(made.to_bytes()) < 8 * 16487


@pytest.mark.parametrize("columns", [{}, {"rgb": array.array("H", range(99))}])
@pytest.mark.parametrize("cut", [0, 10, 30, -40, -1])
def test_a_damaged_file_is_refused(cut, columns):
    ninety_nine = array.array("H", range(99))
    made = Predictions(1, "m", 0.5, "ab", ninety_nine, ninety_nine, columns=columns)
    with pytest.raises(ValueError):
        Predictions.from_bytes(made.to_bytes()[:cut])
    with pytest.raises(ValueError, match="not a file of predictions"):
        Predictions.from_bytes(b"PK" + made.to_bytes())


def test_a_file_that_unpacks_to_more_than_it_says_is_refused():
    line = b'{"epoch": 1, "metric": "m", "top1": 1.0, "clips": 1, "ids": "x"}\n'
    bomb = Predictions.MAGIC + line + zlib.compress(b"\0" * 10_000_000)
    with pytest.raises(ValueError, match="5 bytes for 1 clip"):
        Predictions.from_bytes(bomb)


def test_an_earlier_version_reads_the_first_columns_and_an_earlier_file_is_read():
    one, two = array.array("H", [1, 2, 3]), array.array("H", [3, 2, 1])
    made = Predictions(1, "m", 0.5, "ab", one, two, 4, {"rgb": two}).to_bytes()
    line, packed = made[len(Predictions.MAGIC) :].split(b"\n", 1)
    first = zlib.decompressobj()
    assert first.decompress(packed, 13) == one.tobytes() + two.tobytes() and first.eof
    header = {k: v for k, v in json.loads(line).items() if k not in ("classes", "columns")}
    earlier = Predictions.MAGIC + json.dumps(header).encode() + b"\n" + packed
    assert Predictions.from_bytes(earlier) == Predictions(1, "m", 0.5, "ab", one, two)


def test_old_files_are_pruned_and_those_of_a_lost_past_forgotten(tmp_path):
    rundir = RunDir(tmp_path)
    one = array.array("H", [1])
    for epoch, top1 in enumerate([0.9, 0.5, 0.8, 0.7, 0.6, 0.5]):
        append_line(rundir.measurements, Measurement(epoch=epoch, top1=top1).to_line())
        made = Predictions(epoch, "m", top1, "ab", one, one)
        keep_predictions.save(rundir, keep_predictions.KeptValidation(made, scores(epoch, 1)))
        keep_predictions.prune(rundir, rundir.read_measurements())
    assert keep_predictions.epochs_of(rundir) == [0, 2, 4, 5]
    assert keep_predictions.epochs_of(rundir, "scores") == [2, 5]
    keep_predictions.forget_after(rundir, 4)
    assert keep_predictions.epochs_of(rundir) == [0, 2, 4]
    assert keep_predictions.epochs_of(rundir, "scores") == [2]


def scores(epoch, clips, classes=60):
    rng = np.random.default_rng(epoch)
    drawn = rng.dirichlet(np.full(classes, 0.05), (2, clips)).astype("<f2")
    branches = {"rgb": drawn[0].tobytes(), "pose": drawn[1].tobytes()}
    labels, names = rng.integers(0, classes, clips).tolist(), [f"c{i}" for i in range(clips)]
    return ClipScores(epoch, "m", 0.5, "ab", classes, labels, names, [""] * clips, branches)


def test_scores_come_back_whole_and_are_small():
    made = scores(1, 16487)
    assert ClipScores.from_bytes(made.to_bytes()) == made
    assert len(made.to_bytes()) < 4.2e6


@pytest.mark.parametrize("cut", [0, 10, 30, -40, -1])
def test_a_damaged_file_of_scores_is_refused(cut):
    with pytest.raises(ValueError):
        ClipScores.from_bytes(scores(1, 9).to_bytes()[:cut])


def test_the_kept_scores_give_the_measured_top1(two_ranks):
    measured = {m.epoch: m for m in two_ranks.read_measurements()}
    best = max(measured.values(), key=lambda m: (m.top1, -m.epoch)).epoch
    files = {e: two_ranks.scores_of(e) for e in measured}
    assert {e for e, file in files.items() if file.exists()} == {best, max(measured)}
    found = ClipScores.from_bytes(files[best].read_bytes())
    tables = [np.frombuffer(b, "<f2").reshape(31, 2) for b in found.branches.values()]
    assert (
        list(found.branches) == ["rgb", "pose"]
        and found.ids == kept(two_ranks)[f"epoch_{best}.bin"].ids
    )
    reported = (measured[best].rgb_top1, measured[best].pose_top1)
    for table, value in zip(tables, reported, strict=True):
        assert np.mean(table.argmax(1) == found.labels) == pytest.approx(value, abs=1 / 31)


def sample(score, label=0):
    return {"pred_score": score, "gt_label": torch.tensor([label])}


def test_branches_and_coarse_classes_have_columns_of_their_own():
    rgb, pose = torch.tensor([0.5, 0.4, 0.1]), torch.tensor([0.0, 0.4, 0.6])
    both = sample({"rgb": rgb, "pose": pose}, 2)
    assert keep_predictions.further_columns(both) == {"rgb": 0, "pose": 2}
    both.update(pred_coarse_score={"rgb": torch.tensor([0.2, 0.8])}, gt_coarse_label=0)
    assert keep_predictions.further_columns(both) == {
        **{"rgb": 0, "pose": 2},
        **{"rgb_coarse": 1, "true_coarse": 0},
    }
    assert keep_predictions.further_columns(sample(rgb)) == {}
    rows = [{"rgb": 1, "pose": 2}, {"rgb": 0}]
    assert keep_predictions.as_columns(rows) == {"rgb": array.array("H", [1, 0])}


def test_scores_are_those_that_the_objective_is_made_of():
    rgb, pose = torch.tensor([0.5, 0.4, 0.1]), torch.tensor([0.0, 0.4, 0.6])
    both = sample({"rgb": rgb, "pose": pose}, 2)
    streams = ("rgb", "pose", "RGBPose_1:1", "RGBPose_2:1", "RGBPose_1:9")
    found = {s: keep_predictions.read_clips([both], s)[0][:2] for s in streams}
    assert list(found.values()) == [(0, 2), (2, 2), (1, 2), (1, 2), (2, 2)]
    assert [c[:2] for c in keep_predictions.read_clips([sample(rgb, 1)], "")] == [(0, 1)]
    with pytest.raises(keep_predictions.Unreadable, match='no scores of "depth" among rgb, pose'):
        keep_predictions.read_clips([both], "depth")
    with pytest.raises(keep_predictions.Unreadable, match="more than one label"):
        keep_predictions.read_clips([{"pred_score": rgb, "gt_label": torch.tensor([0, 1, 1])}], "")


def test_ranks_are_put_together_as_the_sampler_took_them_apart():
    clips = [(i, i) for i in range(7)]
    parts = [[clips[i % 7] for i in range(r, 9, 3)] for r in range(3)]  # padded to 9
    assert keep_predictions.whole(parts, 7, [None] * 3) == clips
    with pytest.raises(keep_predictions.Unreadable, match="6 clips were validated"):
        keep_predictions.whole([clips[:2]] * 3, 7, [None] * 3)
    with pytest.raises(keep_predictions.Unreadable, match="broken"):
        keep_predictions.whole(parts, 7, [None, "broken", None])


def test_shuffled_clips_are_not_kept():
    clips = list(range(5))
    ordered = SimpleNamespace(sampler=DefaultSampler(clips, shuffle=False), dataset=clips)
    shuffled = SimpleNamespace(sampler=DefaultSampler(clips, shuffle=True), dataset=clips)
    assert keep_predictions.in_order(ordered) is clips
    with pytest.raises(keep_predictions.Unreadable, match="not read in order"):
        keep_predictions.in_order(shuffled)


def test_the_digest_tells_clips_by_name_and_label_wherever_they_lie():
    class Clips:
        def __init__(self, *names):
            self.names = names

        def get_data_info(self, index):
            return {"filename": self.names[index]}

    here, there = Clips("/data/a.mp4", "/data/b.mp4"), Clips("/mnt/x/a.mp4", "/mnt/x/b.mp4")
    other = Clips("/data/a.mp4", "/data/c.mp4")
    assert keep_predictions.clip_ids(here, [0, 1]) == keep_predictions.clip_ids(there, [0, 1])
    assert keep_predictions.clip_ids(here, [0, 1]) != keep_predictions.clip_ids(other, [0, 1])
    assert keep_predictions.clip_ids(here, [0, 1]) != keep_predictions.clip_ids(here, [1, 0])


def test_a_reading_goes_on_with_the_whole_clips_that_a_killed_one_left(tmp_path):
    clips = [
        keep_predictions.Clip(n, n + 1, {"rgb": np.float16([n, 0.5]), "pose": np.float16([1])}, {})
        for n in range(3)
    ]
    file = tmp_path / "scores.bin.part"
    PartialScores(file).add(clips)
    file.write_bytes(file.read_bytes()[:-1])  # killed in the middle of the last clip
    reading = PartialScores(file)
    reading.add(clips[2:])
    found = [
        (clip.predicted, clip.label, *(list(score) for score in clip.branches.values()))
        for clip in PartialScores(file).clips
    ]
    assert found == [(n, n + 1, [n, 0.5], [1]) for n in range(3)]
