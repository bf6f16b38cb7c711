"""What makes an export a folder to share: a model card's head and sections, and requirements.

The head is the YAML that a model hub reads. The licence and the data stay the user's to decide:
the card says what is missing instead of choosing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.plan.verdict import percent
from pipeline.shared.counted import counted

Record = Mapping[str, Any]
REQUIREMENTS, SAFE = "requirements.txt", "weights.safetensors"
#: Not on a package index, or no package.
_ELSEWHERE = ("pcan", "python", "cuda", "optuna")
#: What mmaction2 itself asks for beside the packages on record: a checkout brings none of it.
_OF_MMACTION = ("einops", "matplotlib", "Pillow", "scipy")
#: mmaction2 imports `importlib_metadata` and does not ask for it; any version of these does.
IMPORTED = ">=6"


def finish_card(folder: Path, record: Record) -> None:
    """Make the README.md of an export a model card, and write `requirements.txt` beside it.

    Args:
        folder: of the export, with its README.md.
        record: what `best.json` holds.
    """
    file = folder / "README.md"
    text = file.read_text(encoding="utf-8").rstrip()
    sections = "\n".join(_sections(record, (folder / SAFE).is_file()))
    file.write_text(f"{front_matter(record)}\n{text}\n\n{sections}", encoding="utf-8")
    (folder / REQUIREMENTS).write_text(requirements(record["versions"]), encoding="utf-8")


def front_matter(record: Record) -> str:
    """Return the YAML head of a model card, its metrics with their split."""
    dataset = record["dataset"]
    splits = {**(record.get("measured_anew") or {}), "val": record["top1"]}
    named = f"top-1 ({record['metric']})"
    refined = _refined(record)
    if refined:
        splits["val"] = refined["selection"]["top1"]
        named = f"top-1 ({refined['metric']})"
    results = [
        {
            "task": {"type": "video-classification", "name": "Action recognition"},
            "dataset": {
                "type": _slug(dataset["name"]),
                "name": dataset["name"],
                "split": dataset["split"] if split == "val" else split,
            },
            "metrics": [{"type": "accuracy", "name": named, "value": value}],
        }
        for split, value in sorted(splits.items(), reverse=True)
        if value is not None
    ]
    name = f"{record['sweep']}-{record['variant']}-{record['number']}"
    head = {
        "library_name": "mmaction2",
        "pipeline_tag": "video-classification",
        "tags": ["action-recognition", "skeleton", "mmaction2", "pcan"],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": results}],
    }
    note = "# license: choose one, such as apache-2.0; it has to fit the data's own terms\n"
    return f"---\n{note}{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _refined(record: Record) -> Record | None:
    """Return the refinement whose weights the folder holds, None for the plain ones."""
    refined: Record | None = record.get("refined")
    return refined if refined and refined["metric"] is not None else None


def _reading(record: Record) -> str:
    """Return the reading that may be reported of these weights, a sentence without its end."""
    refined = _refined(record)
    if refined is None:
        return f"Top-1 of {percent(record['top1'])} was read"
    top1 = percent(refined["selection"]["top1"])
    return f"Top-1 of {top1} was read crosswise (the refinement was chosen on other clips)"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "data"


def _sections(record: Record, safe: bool) -> list[str]:
    """Return the card's sections; `safe`: the weights are there as safetensors too."""
    dataset = record["dataset"]
    clips = f" on {counted(record['val_clips'], 'clip')}" if record["val_clips"] else ""
    files = [f"{loader} {digest[:12]}" for loader, digest in record["data"]["sha256"].items()]
    known = f" Annotation files (sha256): {', '.join(files)}." if files else ""
    return [
        "## Intended use",
        "",
        f"Recognising the actions of {dataset['name']} in clips that are made like its own, and",
        f"research on that. {_reading(record)}{clips} of its {dataset['split']} split, which also",
        "chose the epoch and the trial; other people, cameras and actions were not tried. Not for",
        "decisions about people.",
        "",
        "## Data",
        "",
        f"The data are not included; their owner's terms hold.{known}",
        "",
        "## Files",
        "",
        *([f"`{SAFE}` holds the same weights as `weights.pth`; loading it runs no code."] * safe),
        f"`{REQUIREMENTS}` lists the packages that the training ran with; `best.json` is",
        "the whole record.",
        "",
        "## Licence",
        "",
        "None is chosen yet. Add `license:` to the head of this file and a file `LICENSE`.",
        "",
    ]


def requirements(versions: Mapping[str, str]) -> str:
    """Return the packages of a training for `pip install -r`; what pip cannot install is noted."""
    notes = [f"# {name} {versions[name]}" for name in _ELSEWHERE if name in versions]
    lines = []
    for name, version in versions.items():
        if name in _ELSEWHERE:
            continue
        public = version.partition("+")[0]
        checkout = not re.fullmatch(r"[0-9][\w.]*", public)
        lines.append(f"# {name} {version}" if checkout else f"{name}=={public}")
    if "mmcv" in versions:  # the package index has only its sources, which compile for long
        lines.append(f"# built: pip install openmim && mim install mmcv=={versions['mmcv']}")
    if "mmaction2" in versions:
        lines.append(f"importlib_metadata{IMPORTED}")
        if "checkout" in versions["mmaction2"]:
            lines += _OF_MMACTION
    return "\n".join([*notes, *lines, ""])
