"""The doctor on a real small data set: sound, and then with everything wrong at once."""

import pickle
import re
import time
from pathlib import Path

import pytest

from pipeline.data.annotation import Annotation
from pipeline.data.check import check_videos
from pipeline.data.crop_region import Compact
from pipeline.data.demo import make_demo
from pipeline.data.sources import ClipSource
from pipeline.errors import InputError
from pipeline.job.resolve import Resolution, ResolvedConfig
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.preflight.finding import CheckContext, CheckFinding
from pipeline.preflight.machine_overrides import missing_data_hint
from pipeline.preflight.model_probe import missing_annotations, unnamed_splits
from pipeline.preflight.plan_checks import check_data


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo(folder, 2, 0, lambda *_: None)
    return folder


def findings(root: Path, data: Path) -> list[CheckFinding]:
    return list(check_data(context_of(root, data)))


def context_of(root: Path, data: Path, sweep: Path | None = None) -> CheckContext:
    plan = read_sweep(sweep or root / "sweeps" / "demo.yaml", root)
    nothing = Resolution(bases={}, configs={})
    given = {"data_root": str(data)}
    return CheckContext(project=Project(root), sweep=plan, sets=given, resolution=nothing)


def variant_sweep(root: Path, folder: Path, more: str) -> Path:
    """Write the demo's plan with one more override of its variant lr-0.02."""
    text = (root / "sweeps" / "demo.yaml").read_text()
    old = "set: {optim_wrapper.optimizer.lr: 2e-2"
    assert old in text
    (folder / "demo.yaml").write_text(text.replace(old, f"{old}, {more}"))
    return folder / "demo.yaml"


@pytest.mark.parametrize(
    ("more", "reported"),
    [
        ("model.cls_head.num_classes: 4", "lr-0.02: train_dataloader: .* label outside 0...3"),
        ("val_dataloader.dataset.split: other", "lr-0.02: val_dataloader: .*other"),
        (
            "val_dataloader.dataset.ann_file: elsewhere.pkl",
            "lr-0.02: The annotation is missing: .*elsewhere.pkl .* or correct --set data_root",
        ),
    ],
)
def test_the_data_of_each_variant_are_looked_at(root, demo, tmp_path, more, reported) -> None:
    context = context_of(root, demo, variant_sweep(root, tmp_path, more))
    messages = [found.message for found in check_data(context)]
    assert messages and re.match(reported, messages[0]), messages
    others = ("baseline", "pose-1.5", "start")
    assert not [one for one in messages if any(name in one for name in others)]


def test_a_path_that_is_set_is_judged_and_an_unknown_one_is_refused(root, demo) -> None:
    context = context_of(root, demo)
    context.sets = {**context.sets, "val_dataloader.dataset.ann_file": "moved.pkl"}
    assert ["moved.pkl" in found.message for found in check_data(context)] == [True]
    context.sets = {**context.sets, "val_dataloder.dataset.ann_file": "moved.pkl"}
    with pytest.raises(InputError, match=r"--set val_dataloder.*Did you mean \"val_dataloader"):
        list(check_data(context))


@pytest.mark.parametrize(
    ("sets", "root", "text", "reported"),
    [
        ({}, None, "data_root = 'd'\n", "say where the data lies: --set data_root=DIR"),
        ({"data_root": "x"}, "x", "data_root = 'd'\n", "correct --set data_root."),
        ({}, "x", "data_root = 'd'\n", "correct data.root in the sweep file."),
        ({}, None, "a = 'd'\n", "--set train_dataloader.dataset.ann_file=FILE"),
    ],
)
def test_a_hint_is_not_repeated_after_it_was_followed(sets, root, text, reported) -> None:
    assert reported in missing_data_hint(sets, root, text)


KEY = "train_dataloader.dataset.dataset.ann_file"


@pytest.mark.parametrize(
    ("sets", "kind", "file", "reported"),
    [
        ({}, "PoseDataset", "d/ann.pkl", "say where the data lies: --set data_root=DIR"),
        ({}, "VideoDataset", "/other/a.txt", f"--set {KEY}=FILE (it is not below data_root)"),
        ({KEY: "/new/a.txt"}, "VideoDataset", "/new/a.txt", f"or correct --set {KEY}."),
        ({}, "RawframeDataset", "", f"Name a file: --set {KEY}=FILE"),
    ],
)
def test_a_missing_annotation_of_any_data_set_is_reported_with_its_own_key(
    root, sets, kind, file, reported
) -> None:
    facts = {"data_kinds": {"train_dataloader": kind}, "ann_keys": {"train_dataloader": KEY}}
    facts["ann_files"] = {"train_dataloader": file}
    config = ResolvedConfig(text="data_root = 'd'\n", hash="", changes=(), facts=facts)
    [lack] = missing_annotations(Project(root), config, None, sets)
    assert lack.certain and reported in lack.hint


def test_a_data_set_of_a_projects_own_may_name_what_is_no_file(root) -> None:
    facts = {"data_kinds": {"val_dataloader": "OwnSet"}, "ann_files": {"val_dataloader": "gone"}}
    config = ResolvedConfig(text="", hash="", changes=(), facts=facts)
    [lack] = missing_annotations(Project(root), config, None, {})
    assert not lack.certain and "--set val_dataloader.dataset.ann_file=FILE" in lack.hint
    facts["ann_files"] = {"val_dataloader": "s3://clips/ann.pkl"}
    assert list(missing_annotations(Project(root), config, None, {})) == []


@pytest.mark.parametrize("named", [{}, {"train_dataloader": "train"}])
def test_an_annotation_with_splits_of_which_none_is_named_is_refused(
    demo, tmp_path, named
) -> None:
    [file] = demo.rglob("ann.pkl")
    facts = {"data_kinds": {"train_dataloader": "PoseDataset"}, "ann_splits": named}
    facts["ann_files"] = {"train_dataloader": str(file)}
    config = ResolvedConfig(text="", hash="", changes=(), facts=facts)
    found = list(unnamed_splits(Project(tmp_path), config, None, {}))
    assert [" has splits (train, val), and its data set names none" in o for o in found] == (
        [] if named else [True]
    )


def test_all_that_is_wrong_with_the_data_is_reported_at_once(root: Path, demo: Path) -> None:
    assert findings(root, demo) == []
    (file,) = demo.rglob("*.pkl")
    content = pickle.loads(file.read_bytes())
    content["annotations"][0]["label"] = 99
    content["annotations"][0]["keypoint"][:] = float("nan")
    file.write_bytes(pickle.dumps(content))
    videos = sorted(demo.rglob("*.mp4"))
    videos[1].unlink()
    for video in [videos[0], *videos[2:]]:
        video.write_bytes(b"no video at all")
    reported = " ".join(f.message for f in findings(root, demo))
    for part in (
        "have a label outside 0...7",
        "joints that are NaN",
        "videos are missing, first: ",
        "cannot be decoded",
    ):
        assert part in reported, reported


def test_a_folder_without_the_videos_is_reported_soon(tmp_path: Path) -> None:
    source = ClipSource("val", tmp_path, None, str(tmp_path), {}, Compact())
    annotation = Annotation(tmp_path, [], {})
    names = [f"c{number}" for number in range(30_000)]
    (tmp_path / "c7.mp4").touch()
    begun = time.monotonic()
    rows = list(check_videos(source, annotation, [{"frame_dir": name} for name in names]))
    assert time.monotonic() - begun < 10, "not each video is compared with all that are missing"
    first = tmp_path / "c0.mp4"
    assert rows == [
        ("error", f"29999 of 30000 videos are missing, first: {first}"),
        ("error", f"1 video is an empty file, first: {tmp_path / 'c7.mp4'}"),
    ]


def test_an_annotation_that_would_run_code_is_refused(root: Path, demo: Path) -> None:
    (file,) = demo.rglob("*.pkl")
    file.write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    reported = findings(root, demo)
    assert {f.severity for f in reported} == {"error"}
    assert all("is refused: it calls os.system" in f.message for f in reported)
    assert not Path("canary").exists() and not (root / "canary").exists()
