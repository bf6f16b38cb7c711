"""`pcan compare-predictions`: the forms it reads, and what it refuses."""

import array
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.errors import InputError
from pipeline.report.stats.prediction_files import compare_files, read_predictions
from pipeline.report.stats.significance import McNemar
from pipeline.shared.clip_scores import ClipScores
from pipeline.shared.predictions import Predictions
from recorded_sweep import record_sweep

CLIPS = [(f"clip{n}", n % 4, n % 4 if n % 5 else (n + 1) % 4) for n in range(60)]
FORMS = ("csv", "tsv", "json", "jsonl", "scores.csv", "scores.json", "floats.csv")


def written(folder: Path, form: str, rows: list[tuple[str, int, int]] = CLIPS) -> Path:
    """Write the same predictions in one of the forms."""
    file = folder / f"p.{form}"
    scores = [[float(c == guess) for c in range(4)] for _, _, guess in rows]
    records = [{"clip": c, "label": y, "class": p} for c, y, p in rows]
    if form.endswith("sv"):
        tab = "\t" if form == "tsv" else ","
        last = "scores" if form == "scores.csv" else "Pred"
        cells = [
            f'"{json.dumps(s)}"'
            if form == "scores.csv"
            else f"{p}.0"
            if "floats" in form
            else str(p)
            for (_, _, p), s in zip(rows, scores, strict=True)
        ]
        lines = [tab.join((c, str(y), x)) for (c, y, _), x in zip(rows, cells, strict=True)]
        file.write_text("\n".join([tab.join(("clip", "label", last)), *lines]) + "\n")
    elif form == "scores.json":
        keyed = [
            {"clip": c, "label": y, "scores": s} for (c, y, _), s in zip(rows, scores, strict=True)
        ]
        file.write_text(json.dumps(keyed))
    else:
        joined = "\n".join(map(json.dumps, records))
        file.write_text(json.dumps(records) if form == "json" else joined)
    return file


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_predictions(tmp_path: Path, form: str) -> None:
    found = read_predictions(written(tmp_path, form))
    assert found.clips == [clip for clip, _, _ in CLIPS]
    assert found.predicted == [str(guess) for _, _, guess in CLIPS]
    assert found.labels == [str(label) for _, label, _ in CLIPS]


def test_clips_are_matched_by_name_and_tested_in_pairs(tmp_path: Path) -> None:
    first = written(tmp_path, "csv", [(c, y, y) for c, y, _ in CLIPS])
    found = compare_files(first, written(tmp_path, "json", CLIPS[::-1]))
    wrong = sum(label != guess for _, label, guess in CLIPS)
    assert (found["only_a"], found["only_b"], found["clips"]) == (wrong, 0, 60)
    assert found["p"] == McNemar(clips=60, only_first=wrong, only_second=0).p
    assert (found["first"]["top1"], found["real"]) == (1.0, True)


def test_files_that_runs_keep_are_read(tmp_path: Path) -> None:
    runs = record_sweep(tmp_path / "runs" / "lab")
    kept = [
        next((runs / name / "0" / "predictions").iterdir()) for name in ("lr_high", "baseline")
    ]
    copied = [shutil.copy(file, tmp_path / f"{at}.bin") for at, file in enumerate(kept)]
    done = CliRunner().invoke(cli, ["compare-predictions", *map(str, copied), "--json"])
    record = json.loads(done.stdout)
    assert record["difference"] == pytest.approx(0.07) and record["a"] == "0.bin"
    shown = CliRunner().invoke(cli, ["compare-predictions", *map(str, copied)]).stdout
    assert "93.00 % ± 1.28 on 400 clips" in shown and record["sentence"] in shown


def test_kept_scores_are_read_at_the_ratio_of_the_objective(tmp_path: Path) -> None:
    table = np.eye(3, dtype="<f2")[[0, 1, 1]]
    branches = {"rgb": table.tobytes(), "pose": (table[::-1] / 2).tobytes()}
    metric, names = "acc/RGBPose_1:1_top1", ["x", "y", "z"]
    kept = ClipScores(4, metric, 1.0, "i", 3, [0, 1, 2], names, [""] * 3, branches)
    (tmp_path / "scores_4.bin").write_bytes(kept.to_bytes())
    found = read_predictions(tmp_path / "scores_4.bin")
    assert (found.clips, found.labels, found.predicted) == (
        names,
        ["0", "1", "2"],
        ["0", "1", "1"],
    )


def test_files_that_runs_kept_of_different_clips_are_refused(tmp_path: Path) -> None:
    column = array.array("H", [0, 1])
    for ids in ("one", "two"):
        kept = Predictions(1, "acc/top1", 1.0, ids, column, column)
        (tmp_path / ids).write_bytes(kept.to_bytes())
    with pytest.raises(InputError, match="validated on different clips"):
        compare_files(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no predictions"),
        ("clip,label\na,1\n", "has clip, label. It needs clip,label,class"),
        ("clip,label,class\na,1,\n", "row 1: a label or a class is missing"),
        ("clip,label,class\na,1,2\na,1,2\n", 'names the clip "a" twice'),
        ("label,scores\n1,nan 2\n", "row 1: the scores are not one finite number"),
        ("[1, 2]", "not a list of objects"),
        ('{"clip": "a"', "It needs clip,label,class|not a list of objects"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "p.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_predictions(file)


def test_other_clips_or_labels_are_refused(tmp_path: Path) -> None:
    whole = written(tmp_path, "csv")
    with pytest.raises(InputError, match="60 clips and .* has 59"):
        compare_files(whole, written(tmp_path, "json", CLIPS[1:]))
    with pytest.raises(InputError, match='lacks 1 clip of .*, such as "clip0"'):
        compare_files(whole, written(tmp_path, "json", [("x", 0, 1), *CLIPS[1:]]))
    with pytest.raises(InputError, match='"clip0" has the label 0 in .* and 3 in'):
        compare_files(whole, written(tmp_path, "json", [("clip0", 3, 1), *CLIPS[1:]]))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a text file"):
        compare_files(whole, tmp_path / "b.csv")
