"""Preparing a store: whole, resumable, honest about what it could not do."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.cli.data import command
from pipeline.data.check import check
from pipeline.data.demo import make_demo
from pipeline.data.encode import LOSSLESS, encoder
from pipeline.data.pool import run
from pipeline.data.prepare import check_disk, needed_bytes, plan, prepare
from pipeline.data.sources import of_files
from pipeline.data.verify import spread, verify
from pipeline.data.video import frames, numbered
from pipeline.errors import InputError, NotReady
from pipeline.shared.pack import Pack, write_pack
from pipeline.shared.stills import decode
from pipeline.shared.store import StoreError, read_manifest, store_at, store_record


@pytest.fixture
def demo(tmp_path):
    make_demo(tmp_path / "demo", clips=2)
    return tmp_path / "demo"


def plan_of(demo, root, profile="fine", **options):
    sources = of_files(demo / "ann.pkl", demo / "videos", "train", "val")
    return plan(root, sources, profile, **options)


def webp(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def packs(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.pack")}


def test_a_store_is_the_same_whoever_makes_it(demo, tmp_path):
    one = prepare(plan_of(demo, tmp_path / "one"), workers=1, max_bad=0)
    two = prepare(plan_of(demo, tmp_path / "two"), workers=2, max_bad=0)
    assert one == two
    assert packs(tmp_path / "one") == packs(tmp_path / "two")
    assert one["counts"] == {"train": 8, "val": 8}
    assert store_record(tmp_path / "one") == {
        "store": "prepared", "profile": "fine", "digest": one["digest"],
    }  # fmt: skip


def test_validation_packs_are_identical_to_the_video(demo, tmp_path):
    todo = plan_of(demo, tmp_path / "store")
    prepare(todo, workers=1, max_bad=0)
    compared = verify(todo, 3)
    assert [one.largest for one in compared if one.kind == "val"] == [0, 0, 0]
    assert all(one.psnr > 43 for one in compared if one.kind == "train")
    assert all(one.close for one in compared)


def test_a_pack_of_other_pictures_is_reported(demo, tmp_path):
    files = ["--ann", str(demo / "ann.pkl"), "--videos", str(demo / "videos")]
    options = ["--val-split", "val", "--out", str(tmp_path / "store"), "--verify", "8"]
    assert CliRunner().invoke(command, ["prepare", *files, *options]).exit_code == 0
    first, *_ = sorted((tmp_path / "store" / "val").glob("*.pack"))
    with Pack(first) as pack:
        meta = {key: value for key, value in pack.meta.items() if key != "stills"}
        size = pack.box[3] - pack.box[1], pack.box[2] - pack.box[0]
        stills = [(int(f), decode(pack.still(int(f)), size)[::-1]) for f in pack.frames]
    write_pack(first, meta, [(frame, encoder(LOSSLESS)(still)) for frame, still in stills])
    reported = CliRunner().invoke(command, ["prepare", *files, *options])
    assert "1 packs differ from their videos" in str(reported.exception)


def test_only_missing_stale_and_damaged_packs_are_made_again(demo, tmp_path):
    root = tmp_path / "store"
    manifest = prepare(plan_of(demo, root), workers=1, max_bad=0)
    first, second, third, *_ = sorted((root / "train").glob("*.pack"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-5])
    os.utime(third, (1, 1))
    again = plan_of(demo, root)
    assert {t.name for t in again.missing} == {first.stem, second.stem}
    assert prepare(again, workers=1, max_bad=0) == manifest
    assert third.stat().st_mtime == 1
    assert not plan_of(demo, root).missing


def test_lossless_packs_of_before_are_kept(demo, tmp_path):
    root = tmp_path / "store"
    prepare(plan_of(demo, root), workers=1, max_bad=0)
    first, *_ = sorted((root / "val").glob("*.pack"))
    with Pack(first) as pack:
        size = pack.box[3] - pack.box[1], pack.box[2] - pack.box[0]
        head = {key: value for key, value in pack.meta.items() if key != "stills"}
        stills = [(int(f), decode(pack.still(int(f)), size)) for f in pack.frames]
    write_pack(first, {**head, "codec": "webp"}, [(frame, webp(one)) for frame, one in stills])
    todo = plan_of(demo, root)
    assert not todo.missing
    compared = {one.clip: one for one in verify(todo, 8) if one.kind == "val"}
    assert compared[first.stem].lossless and compared[first.stem].close


def test_flipped_bytes_are_found_when_packs_are_read_in_full(demo, tmp_path):
    root = tmp_path / "store"
    manifest = prepare(plan_of(demo, root), workers=1, max_bad=0)
    first, *_ = sorted((root / "val").glob("*.pack"))
    whole = first.read_bytes()
    first.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert not plan_of(demo, root).missing
    todo = plan_of(demo, root, in_full=True)
    assert [task.name for task in todo.missing] == [first.stem]
    assert prepare(todo, workers=1, max_bad=0) == manifest
    assert first.read_bytes() == whole


def test_another_profile_makes_the_training_packs_again(demo, tmp_path):
    root = tmp_path / "store"
    fine = prepare(plan_of(demo, root, limit=1), workers=1, max_bad=0)
    exact = plan_of(demo, root, "exact", limit=1)
    assert [list(task.packs)[0].parent.name for task in exact.missing] == ["train"]
    assert prepare(exact, workers=1, max_bad=0)["digest"] != fine["digest"]


def test_an_unfinished_store_is_none(demo, tmp_path):
    with pytest.raises(StoreError, match="pcan data prepare"):
        read_manifest(tmp_path)
    assert "no finished store" in store_at(tmp_path)["problem"]


def test_damaged_videos_are_named_and_skipped_under_the_limit(demo, tmp_path):
    videos = demo / "videos"
    (videos / "wave_000.mp4").write_bytes(b"no video at all")
    (videos / "clap_000.mp4").unlink()
    with pytest.raises(NotReady, match="2 clips could not be prepared, more than --max-bad 1"):
        prepare(plan_of(demo, tmp_path / "store"), workers=1, max_bad=1)
    assert not (tmp_path / "store" / "manifest.json").exists()
    manifest = prepare(plan_of(demo, tmp_path / "store"), workers=1, max_bad=2)
    assert set(manifest["skipped"]) == {"wave_000", "clap_000"}
    assert "is missing" in manifest["skipped"]["clap_000"]
    assert manifest["counts"] == {"train": 6, "val": 8}


def test_a_video_shorter_than_its_annotation_is_damaged(demo, tmp_path):
    import pickle

    content = pickle.loads((demo / "ann.pkl").read_bytes())
    clip = content["annotations"][0]
    for joints in ("keypoint", "keypoint_score"):
        clip[joints] = clip[joints].repeat(2, axis=1)
    clip["total_frames"] *= 2
    (demo / "ann.pkl").write_bytes(pickle.dumps(content))
    manifest = prepare(plan_of(demo, tmp_path / "store"), workers=1, max_bad=1)
    assert "frames, its annotation" in manifest["skipped"]["wave_000"]
    found = [f for f in check(plan_of(demo, tmp_path).sources, decode=8) if f.severity == "error"]
    assert len(found) == 1 and "its annotation" in found[0].text


def test_a_full_disk_is_reported_beforehand(demo, tmp_path):
    todo = plan_of(demo, tmp_path / "store")
    manifest = prepare(todo, workers=1, max_bad=0)
    assert 0.7 < needed_bytes(todo) / manifest["bytes"] < 1.3  # from eight pictures
    with pytest.raises(NotReady, match="--out DIR"):
        check_disk(todo, 10**18)


def test_a_clip_outside_its_folder_is_refused(demo, tmp_path):
    import pickle

    content = pickle.loads((demo / "ann.pkl").read_bytes())
    content["annotations"][0]["frame_dir"] = content["split"]["train"][0] = "../../evil"
    (demo / "ann.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="outside its folder"):
        plan_of(demo, tmp_path / "store")


def test_nothing_to_prepare_is_an_error(tmp_path):
    with pytest.raises(InputError, match="nothing to prepare"):
        plan(tmp_path, [], "fine")


def test_the_pool_survives_hanging_crashing_and_raising_tasks():
    # `eval` is a function that any process can import.
    hang, crash, fail = "__import__('time').sleep(99)", "__import__('os')._exit(7)", "int('x')"
    tasks = ["1", "2", hang, crash, "3", fail, "4"]
    done = {one.task: one for one in run(eval, tasks, workers=2, limit_s=4)}
    assert [done[task].result for task in "1234"] == [1, 2, 3, 4]
    assert "longer than 4 s" in done[hang].error
    assert "exit code 7" in done[crash].error
    assert done[fail].error.startswith("ValueError: invalid literal")


def test_spread_takes_the_ends_and_the_middle():
    assert spread(list(range(9)), 3) == [0, 4, 8]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([1, 2, 3], 1) == [1]


def test_commands_prepare_and_check(demo, tmp_path):
    files = ["--ann", str(demo / "ann.pkl"), "--videos", str(demo / "videos")]
    splits = ["--train-split", "train", "--val-split", "val"]
    out = str(tmp_path / "store")
    made = CliRunner().invoke(command, ["prepare", *files, *splits, "--out", out, "--limit", "2"])
    assert made.exit_code == 0, made.output
    assert "2 training and 2 validation packs" in made.stdout
    seen = CliRunner().invoke(command, ["check", *files, *splits, "--store", out, "--json"])
    record = json.loads(seen.stdout)
    assert record["schema"] == 1 and record["store"]["limit"] == 2
    assert {one["severity"] for one in record["findings"]} == {"note"}


def test_dry_run_writes_nothing(demo, tmp_path):
    files = ["--ann", str(demo / "ann.pkl"), "--videos", str(demo / "videos")]
    out = tmp_path / "store"
    options = ["--train-split", "train", "--out", str(out), "--dry-run"]
    run_ = CliRunner().invoke(command, ["prepare", *files, *options])
    assert run_.exit_code == 0 and "8 clips, 0 of them ready" in run_.stderr
    assert not out.exists()


def test_dry_run_leaves_a_finished_store_finished(demo, tmp_path):
    manifest = prepare(plan_of(demo, tmp_path / "store"), workers=1, max_bad=0)
    next((tmp_path / "store" / "train").glob("*.pack")).unlink()
    files = ["--ann", str(demo / "ann.pkl"), "--videos", str(demo / "videos")]
    options = ["--train-split", "train", "--val-split", "val", "--out", str(tmp_path / "store")]
    assert CliRunner().invoke(command, ["prepare", *files, *options, "--dry-run"]).exit_code == 0
    assert read_manifest(tmp_path / "store") == manifest


def test_check_names_missing_videos_and_ends_with_an_error(demo, tmp_path):
    (demo / "videos" / "wave_000.mp4").unlink()
    files = ["--ann", str(demo / "ann.pkl"), "--videos", str(demo / "videos")]
    seen = CliRunner().invoke(command, ["check", *files, "--train-split", "train"])
    assert isinstance(seen.exception, NotReady)
    assert "1 of 8 videos are missing" in seen.stdout


def test_the_real_clips_are_in_order(real_data):
    folder = Path(real_data) / "utd_mhad_demo8"
    sources = of_files(folder / "ann_coco17.pkl", folder / "videos", "dev_train", "dev_val")
    assert {one.severity for one in check(sources, decode=2)} == {"note"}


def test_only_wanted_frames_are_handed_out_and_they_are_the_same(demo):
    video = sorted((demo / "videos").glob("*.mp4"))[0]
    everything = list(frames(video))
    some = dict(numbered(video, {0, 3, len(everything) - 1, 10**6}))
    assert sorted(some) == [0, 3, len(everything) - 1]
    assert all(np.array_equal(picture, everything[number]) for number, picture in some.items())
