"""An export as a folder to share: the hub's own reader takes its card, its library the weights."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.sweep import JobSettings
from pipeline.report.best.export_usage import ExportUsage
from pipeline.report.best.exported_config import ExportedConfig
from pipeline.report.best.model_card import finish_card, front_matter, requirements

RECORD: dict[str, Any] = {
    "sweep": "lab",
    "variant": "lr-0.001",
    "number": 0,
    "top1": 0.91,
    "metric": "acc/RGBPose_1:1_top1",
    "val_clips": 400,
    "dataset": {"name": 'ntu60 <x>: "y"', "split": "xsub_val"},
    "data": {"sha256": {"val_dataloader": "a" * 64}},
    "versions": {
        "python": "3.11.7",
        "pcan": "0.1.0",
        "torch": "2.13.0+cpu",
        "mmaction2": "1.2.0 (checkout)",
        "mmcv-lite": "2.1.0",
    },
}


def test_the_hub_reads_metrics_with_their_split(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "README.md").write_text("# lab: lr-0.001/0\n\nTop-1 91.00 %.\n")
    finish_card(tmp_path, {**RECORD, "measured_anew": {"val": 0.909, "test": 0.9}})
    card = hub.ModelCard.load(tmp_path / "README.md")
    results = {one.dataset_split: one for one in card.data.eval_results}
    assert {split: one.metric_value for split, one in results.items()} == {
        "xsub_val": 0.91,
        "test": 0.9,
    }
    one = results["xsub_val"]
    assert (one.metric_type, one.metric_name) == ("accuracy", "top-1 (acc/RGBPose_1:1_top1)")
    assert one.dataset_name == RECORD["dataset"]["name"]
    assert card.data.model_name == "lab-lr-0.001-0" and card.data.library_name == "mmaction2"
    assert card.data.license is None
    for heading in ("# lab: lr-0.001/0", "## Intended use", "## Data", "## Licence"):
        assert f"\n{heading}\n" in card.text


def test_refined_weights_are_reported_as_they_read_crosswise(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# lab: lr-0.001/0\n")
    refined = {"metric": "acc/refined_top1", "reads": 0.93, "selection": {"top1": 0.92}}
    finish_card(tmp_path, {**RECORD, "refined": refined, "measured_anew": {"val": 0.93}})
    text = (tmp_path / "README.md").read_text()
    assert "name: top-1 (acc/refined_top1)\n      value: 0.92\n" in text
    assert "Top-1 of 92.00 % was read crosswise" in text and "0.91" not in text
    plain = {**refined, "metric": None}
    assert front_matter({**RECORD, "refined": plain}) == front_matter(RECORD)


def test_the_card_has_one_head_and_no_licence_of_its_own(tmp_path: Path) -> None:
    text = front_matter(RECORD)
    assert text.startswith("---\n") and text.endswith("---\n") and text.count("---\n") == 2
    assert re.search(r"^# license: choose one", text, re.M)


def test_requirements_are_what_pip_installs_and_notes_on_the_rest() -> None:
    lines = requirements(RECORD["versions"]).splitlines()
    assert "torch==2.13.0" in lines and "mmcv-lite==2.1.0" in lines
    assert "# mmaction2 1.2.0 (checkout)" in lines and "# pcan 0.1.0" in lines
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w-]+((==|>=)[\w.]+)?", line)


def test_requirements_have_what_mmaction2_imports_and_does_not_ask_for() -> None:
    assert "importlib_metadata>=6" in requirements({"mmaction2": "1.2.0"}).splitlines()
    assert "importlib_metadata" not in requirements({"torch": "2.13.0"})


def test_a_checkout_gets_what_the_released_package_would_have_asked_for() -> None:
    released, checkout = (
        requirements({"mmaction2": version}).splitlines()
        for version in ("1.2.0", "1.2.0 (checkout)")
    )
    assert {"einops", "scipy", "importlib_metadata>=6"} <= set(checkout)
    assert "einops" not in released


USAGES: dict[str, tuple[dict[str, str], str | None, list[str]]] = {
    "pcan's own": (
        {"python": "3.11.7", "torch": "2.13.0+cpu"},
        None,
        [
            "    python3.11 -m venv env && ",
            "    pip install --no-deps PCAN",
            "The trial ran with torch 2.13.0+cpu.",
        ],
    ),
    "an older": (
        {"python": "3.8.18", "torch": "1.13.1+cu117"},
        "../my env/bin/python",
        [
            "    python3.8 -m venv env && ",
            "    pip install --no-deps --ignore-requires-python PCAN",
            "In the new environment `python` takes the place of `'../my env/bin/python'` below.",
        ],
    ),
}


@pytest.mark.parametrize("name", USAGES)
def test_the_card_names_the_python_and_the_build_of_torch(name: str, tmp_path: Path) -> None:
    versions, python, lines = USAGES[name]
    usage = ExportUsage(
        job=JobSettings(python=python),
        config=ExportedConfig(text="", needs_pcan=True, data_root=None, paths={}),
        root=tmp_path,
        folder=tmp_path / "exports" / "lab",
        start=None,
        start_copy=None,
        data_root=None,
        versions=versions,
    )
    text = "\n".join(usage.lines())
    assert all(f"\n{line}" in text for line in lines), text
    assert "add `--extra-index-url https://download.pytorch.org/whl/cpu`" in text


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    from pipeline.train.tools.export_weights import TYPES, write_safetensors

    weights = {
        f"a.{kind}": torch.arange(6).reshape(2, 3).to(getattr(torch, kind)) for kind in TYPES
    }
    weights |= {"scalar": torch.tensor(3), "empty": torch.zeros(0, 4), "ä": torch.eye(3).T[1:]}
    left = write_safetensors(tmp_path / "w.safetensors", {**weights, "epoch": 3})
    read = library.load_file(tmp_path / "w.safetensors")
    assert left == ["epoch"] and set(read) == set(weights)
    for name, tensor in weights.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
