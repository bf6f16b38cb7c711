"""The doctor on a real small data set: sound, and then with everything wrong at once."""

import pickle
from pathlib import Path

import pytest

from pipeline.data.demo import make_demo
from pipeline.job.resolve import Resolution
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.preflight.finding import CheckContext, CheckFinding
from pipeline.preflight.plan_checks import check_data


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo(folder, 2, 0, lambda *_: None)
    return folder


def findings(root: Path, data: Path) -> list[CheckFinding]:
    context = CheckContext(
        project=Project(root),
        sweep=read_sweep(root / "sweeps" / "demo.yaml", root),
        data_root=str(data),
        resolution=Resolution(base={"num_classes": 8}, configs={}),
    )
    return list(check_data(context))


def test_all_that_is_wrong_with_the_data_is_told_at_once(root: Path, demo: Path) -> None:
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
    told = " ".join(f.message for f in findings(root, demo))
    for part in (
        "have a label outside 0...7",
        "have joints that are NaN",
        "videos are missing, first: ",
        "cannot be decoded",
    ):
        assert part in told, told


def test_an_annotation_that_would_run_code_is_refused(root: Path, demo: Path) -> None:
    (file,) = demo.rglob("*.pkl")
    file.write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    told = findings(root, demo)
    assert {f.severity for f in told} == {"error"}
    assert all("is refused: it calls os.system" in f.message for f in told)
    assert not Path("canary").exists() and not (root / "canary").exists()
