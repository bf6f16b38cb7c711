"""What a person types first, by what the folder holds that they are in."""

from collections.abc import Iterator
from pathlib import Path

#: Sweeps that are named; a project of more has its list.
NAMED = 6


def sweep_files(folder: Path) -> list[Path]:
    """Return the sweep files of the project in a folder, by name."""
    place = folder / "sweeps"
    files = [*place.glob("*.yml"), *place.glob("*.yaml")]
    return sorted({file.stem: file for file in files}.values())


def next_steps(folder: Path, marked: bool) -> str:
    """Return the next command, or two, for someone in a folder.

    Args:
        marked: the folder is a project of pcan.
    """
    if marked:
        return "\n".join(_in_project(folder))
    if _is_work_dir(folder):
        return (
            "This looks like a work dir of MMAction2. What went wrong in it: pcan diagnose .\n"
            "A project for its config, beside it: "
            f"pcan init ../pcan --from {_config(folder)} --log ."
        )
    if (folder / "mmaction" / "__init__.py").is_file():
        return (
            "This looks like a checkout of MMAction2. A project beside it that trains with it: "
            "pcan init ../pcan --from CONFIG.py --code-root ."
        )
    return "Make a project here: pcan init   or in a folder of its own: pcan init DIR"


def _in_project(folder: Path) -> Iterator[str]:
    names = [file.stem for file in sweep_files(folder)]
    if not names:
        yield "This project has no sweep file yet. Write one into sweeps/, then: pcan sweep plan"
        return
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    yield f"Sweeps here: {', '.join(names[:NAMED])}{more}."
    begun = [name for name in names if (folder / "runs" / name).is_dir()]
    if begun:
        yield f"Where one stands: pcan sweep status {begun[0]}"
    else:
        shown = "demo" if "demo" in names else names[0]
        yield f"What one will do: pcan sweep plan {shown}   What it lacks: pcan doctor {shown}"


def _is_work_dir(folder: Path) -> bool:
    """Whether a run of MMEngine or MMCV wrote here; only names are looked at."""
    inside = ("*/vis_data/scalars.json", "vis_data/scalars.json", "*.log.json", "last_checkpoint")
    return any(next(folder.glob(pattern), None) is not None for pattern in inside)


def _config(folder: Path) -> str:
    """Return the config that the run kept beside its logs."""
    kept = next(iter(sorted(folder.glob("*.py"))), None)
    return kept.name if kept is not None else "CONFIG.py"
