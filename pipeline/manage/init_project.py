"""`pcan init`: make a project folder from the plans and configs in the package."""

import shutil
from pathlib import Path

import pipeline
from pipeline.errors import InputError, NotReady
from pipeline.plan.project import MARK

_FOLDERS = {"sweeps": "*.yaml", "configs": "*.py"}


def new_project(folder: Path) -> list[Path]:
    """Copy wandb.yaml, sweeps/ and configs/ into a folder, created if it is missing.

    Returns:
        The files written, relative to the folder.

    Raises:
        InputError: one of them exists already; then nothing is written.
        NotReady: the package has none, or the folder cannot be written.
    """
    source = _source()
    names = [Path(MARK)]
    for part, pattern in _FOLDERS.items():
        names += sorted(Path(part) / file.name for file in (source / part).glob(pattern))
    existing = [str(path) for path in names if (folder / path).exists()]
    if existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise InputError(
            f"{folder} has {existing[0]}{more} already; nothing is overwritten. Name "
            "another folder: pcan init DIR"
        )
    try:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with open(source / name, "rb") as old, open(folder / name, "xb") as new:
                shutil.copyfileobj(old, new)
    except OSError as error:
        raise NotReady(f"{folder} cannot be made a project: {error.strerror or error}.") from None
    return names


def new_mark(folder: Path) -> bool:
    """Make a folder a project without plans; False if it is one already.

    Raises:
        NotReady: the folder cannot be written.
    """
    if (folder / MARK).is_file():
        return False
    try:
        (folder / "sweeps").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_source() / MARK, folder / MARK)
    except OSError as error:
        raise NotReady(f"{folder} cannot be made a project: {error.strerror or error}.") from None
    return True


def _source() -> Path:
    """Return the folder of the plans and configs: in the wheel, or the checkout around it."""
    package = Path(pipeline.__file__).resolve().parent
    for place in (package / "_data", package.parent):
        if (place / MARK).is_file() and (place / "sweeps").is_dir():
            return place
    raise NotReady(
        "This installation of pcan came without its plans (pipeline/_data). Install it again: "
        "pip install --force-reinstall pcan"
    )
