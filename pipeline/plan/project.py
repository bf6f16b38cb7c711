"""The project's folder: where it begins, which sweeps it has, where runs and exports go."""

import dataclasses
import difflib
import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import InputError
from pipeline.plan.first_steps import next_steps, sweep_files
from pipeline.shared.files import read_json

#: The file that marks the project's root.
MARK = "wandb.yaml"
DEFAULT_SWEEP = "pcan_ntu60"
#: In the folder of a sweep's runs: who launched it last, how, and from which sweep file.
LAUNCH_FILE = "launch.json"
#: Trials that an error lists.
SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Project:
    """Paths below a project's root."""

    root: Path

    @property
    def sweeps(self) -> Path:
        return self.root / "sweeps"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def cache(self) -> Path:
        return self.runs / ".cache"

    def exports(self, sweep: str) -> Path:
        return self.root / "exports" / sweep

    def sweep_files(self) -> list[Path]:
        """Return the sweep files of the project, by name."""
        return sweep_files(self.root)

    def launched_elsewhere(self) -> dict[str, Path]:
        """Return the files outside `sweeps/` that were launched here, by the sweep's name."""
        found = {}
        for record in sorted(self.runs.glob(f"*/{LAUNCH_FILE}")):
            file = Path(str((read_json(record) or {}).get("sweep") or "."))
            if file.parent != self.sweeps.resolve() and is_file(file):
                found[record.parent.name] = file
        return found

    def sweep_file(self, given: str | None) -> Path:
        """Return the file that SWEEP on the command line means.

        Args:
            given: a file's name in `sweeps/`, a path, the `name:` of a file in `sweeps/` or of one
                that was launched here, or None for the default.

        Raises:
            InputError: there is no such sweep; the text lists those there are.
        """
        files = self.sweep_files()
        if given is None and len(files) == 1:
            return files[0]
        names = ", ".join(file.stem for file in files)
        if given is None and files and DEFAULT_SWEEP not in [file.stem for file in files]:
            raise InputError(f"Say which sweep; in {self.sweeps} there are: {names}.")
        given = given or DEFAULT_SWEEP
        named = (self.sweeps / f"{given}{ending}" for ending in (".yaml", ".yml"))
        for path in (*named, Path(given)):
            if path.suffix in (".yaml", ".yml") and is_file(path):
                return path.resolve()
        called = [file for file in files if _calls_itself(file, given)]
        if len(called) == 1:
            return called[0].resolve()
        elsewhere = self.launched_elsewhere()
        if given in elsewhere:
            return elsewhere[given]
        known = ", ".join(file.stem for file in files) or "none"
        close = difflib.get_close_matches(given, [file.stem for file in files], 1)
        meant = f' Did you mean "{close[0]}"?' if close else ""
        raise InputError(
            f'There is no sweep "{given}". In {self.sweeps} there are: {known}.{meant}'
        )


def no_such_trial(
    sweep: str, name: str, known: Iterable[str], runs: Path | None = None
) -> InputError:
    """Return the error for a trial that a sweep does not have.

    Args:
        name: what was typed.
        known: the sweep's trials.
        runs: the runs of all sweeps here; one of them may have a trial of that name.
    """
    names = list(known)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    text = f'{sweep} has no trial "{name}"; it has: {listed or "none"}.'
    variant, slash, number = name.rpartition("/")
    if not (slash and variant and re.fullmatch("[0-9]+", number)):
        return InputError(f"{text} A trial is VARIANT/NUMBER, for example baseline/0.")
    folders = runs.glob(f"*/{glob.escape(variant)}/{number}") if runs else ()
    others = ", ".join(sorted(folder.parts[-3] for folder in folders))
    return InputError(f"{text} Name the sweep that has it: {others}." if others else text)


def _calls_itself(file: Path, name: str) -> bool:
    """Return whether a sweep file has this `name:`, by which messages call it."""
    try:
        text = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return False
    found = re.search(r"^name:[ \t]*[\"']?([\w.-]+)", text, re.MULTILINE)
    return found is not None and found[1] == name


def is_file(path: Path) -> bool:
    """Return whether the file exists; False for a name that no file system would accept."""
    try:
        return path.is_file()
    except OSError:
        return False


def find_project(start: Path | None = None) -> Project:
    """Return the project around a folder (the working directory by default).

    Raises:
        InputError: the folder is not in a project.
    """
    here = (start or Path.cwd()).resolve()
    _refuse_undecodable(here)
    for folder in (here, *here.parents):
        if (folder / MARK).is_file() and (folder / "sweeps").is_dir():
            return Project(folder)
    raise InputError(
        f"{here} is not in a pcan project (a folder with {MARK} and sweeps/). "
        f"Go to one, or:\n{next_steps(here, marked=False)}"
    )


def _refuse_undecodable(folder: Path) -> None:
    """Refuse a folder whose name no JSON, SQLite or terminal can hold.

    Raises:
        InputError: the name is not UTF-8 text.
    """
    name = os.fsencode(folder)
    if name.decode(errors="replace") != str(folder):
        raise InputError(
            f"The folder {name.decode(errors='replace')} has a name that is not UTF-8 text. "
            "Rename it, or move the project."
        )


def relative(path: Path, root: Path) -> str:
    """Return a path as it is typed from the project's root."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
