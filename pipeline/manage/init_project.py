"""Make a project folder from the plans and configs that the package brings: `pcan init`."""

import shutil
from pathlib import Path

import pipeline
from pipeline.errors import InputError, NotReady
from pipeline.plan.project import MARK

_FOLDERS = {"sweeps": "*.yaml", "configs": "*.py"}


def new_project(folder: Path) -> list[Path]:
    """Copy wandb.yaml, sweeps/ and configs/ into a folder, which is made if it is missing.

    Returns:
        The files written, relative to the folder.

    Raises:
        InputError: one of them is there already; then nothing is written.
        NotReady: the package came without them, or the folder cannot be written.
    """
    source = _source()
    names = [Path(MARK)]
    for part, pattern in _FOLDERS.items():
        names += sorted(Path(part) / file.name for file in (source / part).glob(pattern))
    there = [str(path) for path in names if (folder / path).exists()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise InputError(
            f"{folder} has {there[0]}{more} already; nothing is overwritten. Name another folder: "
            "pcan init DIR"
        )
    try:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(source / name, "rb") as old, open(folder / name, "xb") as new:
                shutil.copyfileobj(old, new)
    except OSError as error:
        raise NotReady(f"{folder} cannot be made a project: {error.strerror or error}.") from None
    return names


def _source() -> Path:
    """Return where the plans and configs lie: in the wheel, or in the checkout around it."""
    package = Path(pipeline.__file__).resolve().parent
    for place in (package / "_data", package.parent):
        if (place / MARK).is_file() and (place / "sweeps").is_dir():
            return place
    raise NotReady(
        "This installation of pcan came without its plans (pipeline/_data). Install it again: "
        "pip install --force-reinstall pcan"
    )
