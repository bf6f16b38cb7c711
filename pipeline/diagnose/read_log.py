"""Read any training log as a curve: a file of any known format, a work dir, a trial.

No parser of MMEngine's text logs exists to build on (OpenMMLab's own analysis scripts read
only the JSON form), so `text_log` is ours.
"""

import dataclasses
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.diagnose.blocks import head
from pipeline.diagnose.config_facts import read_config
from pipeline.diagnose.csv_columns import csv_columns, table_of_runs, table_without_epochs
from pipeline.diagnose.csv_log import csv_run
from pipeline.diagnose.curve import Curve, Facts, LogRun, join
from pipeline.diagnose.json_log import json_format, json_run
from pipeline.diagnose.json_table import is_json_table, json_table
from pipeline.diagnose.text_log import text_runs
from pipeline.diagnose.trial import is_trial, trial_facts
from pipeline.errors import InputError

_STARTED = re.compile(r"\d{8}_\d{6}")
_HEAD = 1 << 20
#: Of a configuration beside a log; a longer file is not one.
_CONFIG_BYTES = 2 << 20


def read_log(path: str | Path) -> Curve:
    """Read a log file, a work dir (its newest run and what that was resumed from), or a trial.

    Raises:
        InputError: there is no log, or its format is unknown.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise InputError(f"There is no log {path}. Give a log file or the work dir of a run.")
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder.")
    runs, format = _runs(path)
    _add_facts_beside(path, runs[-1])
    _add_facts_of_text(path, runs[-1])
    return join(runs, str(path), format)


def _text_form(path: Path) -> Path | None:
    """Return the text log of the run whose JSON form this is, where it lies in its place."""
    if path.name.endswith(".log.json"):
        return path.with_suffix("")
    if path.parent.name == "vis_data":
        return path.parent.parent / f"{path.parent.parent.name}.log"
    return None


def _add_facts_of_text(path: Path, run: LogRun) -> None:
    """Fill in what only the text form of a run has: how it was set up, and how it ended."""
    text = _text_form(path)
    if text is None or not text.is_file():
        return
    try:
        runs, _ = _runs(text)
    except InputError:
        return
    run.facts.fill(_with_file_name(runs[-1].facts, text))
    run.has_header = True


def _runs(path: Path) -> tuple[list[LogRun], str]:
    first = head(path, _HEAD)
    if not first.strip():
        raise InputError(f"{path} is empty.")
    if format := json_format(first):
        return [json_run(path, format)], format
    if is_json_table(first) and (table := json_table(path)) is not None:
        return [table], "JSON table"
    if table_of_runs(first):
        raise InputError(
            f"{path} is a table of runs, one a row, not of the epochs of one. Export the history "
            "of a run (its metrics by epoch) and name the columns epoch,top1[,lr]."
        )
    if columns := csv_columns(first):
        return [csv_run(path, columns)], "CSV"
    if names := table_without_epochs(first):
        raise InputError(
            f"{path} is a table without a column `epoch`; it has {', '.join(names[:8])}. Name the "
            "column that numbers the validations 1, 2, 3 `epoch` (or add one), and the accuracy "
            "`top1`."
        )
    pieces = _pieces(path)
    runs, format = text_runs(pieces)
    if len(pieces) > 1:
        runs[-1].note(f"{len(pieces)} rotated pieces read as one; lines count within each piece")
    return runs, format


def _pieces(path: Path) -> list[Path]:
    """Return the rotated pieces of a log, oldest first: x.log.2.gz, x.log.1, x.log."""
    numbered = []
    for other in path.parent.glob(f"{_escape(path.name)}.*"):
        number = other.name[len(path.name) + 1 :].removesuffix(".gz")
        if number.isascii() and number.isdigit():
            numbered.append((int(number), other))
    return [other for _, other in sorted(numbered, reverse=True)] + [path]


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


@dataclasses.dataclass(frozen=True)
class _Sources:
    """The files one start of a training program left."""

    started: str
    text: Path | None
    exact: Path | None

    def read(self) -> tuple[list[LogRun], str, Path]:
        """Return the runs; the exact values of the JSON form unless the text knows more epochs."""
        text, exact = self._try(self.text), self._try(self.exact)
        if text is None and exact is None:
            return [], "", self.text or self.exact or Path()
        if exact is None or (text and _validations(text[0]) > _validations(exact[0])):
            assert text is not None and self.text is not None
            return *text, self.text
        assert self.exact is not None
        if text is not None:
            exact[0][-1].facts.fill(_with_file_name(text[0][-1].facts, self.text))
            exact[0][-1].has_header = True
        return *exact, self.exact

    def _try(self, path: Path | None) -> tuple[list[LogRun], str] | None:
        try:
            runs, format = _runs(path) if path else ([], "")
        except InputError:
            return None
        if path and runs:
            _add_facts_beside(path, runs[-1])
        return (runs, format) if runs else None


def _with_file_name(facts: Facts, text: Path | None) -> Facts:
    """Add the file name to lines that are not in the file of the values."""
    where = f" ({text.name})" if text else ""
    for name in ("stop_message", "traceback"):
        entry = getattr(facts, name)
        if entry is not None:
            setattr(facts, name, (entry[0], entry[1].rstrip(". ") + where))
    return facts


def _validations(runs: Iterable[LogRun]) -> int:
    return sum(bool(point.metrics) for run in runs for point in run.points())


def _read_folder(folder: Path) -> Curve:
    if is_trial(folder):
        return _read_trial(folder)
    sources = sorted(_sources(folder), key=lambda source: source.started)
    if not sources:
        raise InputError(
            f"{folder} holds no training log. A work dir has TIME/TIME.log, TIME/vis_data/*.json, "
            "TIME.log or TIME.log.json in it. Another log is given by its own name."
        )
    read = [source.read() for source in sources]
    runs = [run for some, _, _ in read for run in some]
    if not runs:
        raise InputError(
            f"No log in {folder} has a format that pcan knows "
            f"({sources[-1].text or sources[-1].exact})."
        )
    read_from = [(format, path) for some, format, path in read if any(some)]
    read_from = read_from or [read[-1][1:]]
    curve = join(runs, str(read_from[-1][1]), read_from[-1][0])
    if not runs[-1] and any(runs):
        kind = "is a test" if runs[-1].facts.test is not None else "has no epoch yet"
        note = f"the newest run {kind}; the run before it is shown"
        curve = dataclasses.replace(curve, notes=(*curve.notes, note))
    return curve


def _read_trial(folder: Path) -> Curve:
    measured = folder / "measurements.jsonl"
    run = json_run(measured, "measurements") if measured.exists() else LogRun()
    run.facts.fill(trial_facts(folder))
    _add_facts_beside(measured, run)
    return join([run], str(measured), "measurements")


def _sources(folder: Path) -> list[_Sources]:
    """Return what each start left in a work dir of MMEngine or of MMCV 1.x."""
    sources = [_of_run_folder(sub) for sub in folder.iterdir() if sub.is_dir()] + [
        _of_run_folder(folder)
    ]
    sources += [
        _Sources(
            _when(text),
            text,
            exact if (exact := text.with_name(f"{text.name}.json")).is_file() else None,
        )
        for text in folder.glob("*.log")
        if not (folder / "vis_data").is_dir()
    ]
    alone = [path for path in folder.glob("*.log.json") if not path.with_suffix("").exists()]
    sources += [_Sources(_when(path), None, path) for path in alone]
    return [source for source in sources if source is not None]


def _of_run_folder(folder: Path) -> _Sources | None:
    """MMEngine: <time>/<time>.log and <time>/vis_data/scalars.json (also as <time>.json)."""
    exact = _exact(folder)
    text = folder / f"{folder.name}.log"
    if not text.is_file() and exact.is_file():
        text = next(iter(sorted(folder.glob("*.log"))), text)
    if not (text.is_file() or exact.is_file()):
        return None
    named = text if text.is_file() else exact
    return _Sources(
        _when(folder, named), text if text.is_file() else None, exact if exact.is_file() else None
    )


def _exact(folder: Path) -> Path:
    """Return where the exact values of a run folder lie, or would lie.

    A copy of a work dir often has only vis_data/<time>.json, which holds the same lines; the
    folder of a test has <time>/<time>.json.
    """
    scalars = folder / "vis_data" / "scalars.json"
    dated = sorted((folder / "vis_data").glob("*.json"))
    tested = folder / f"{folder.name}.json"
    others = [path for path in (*dated, tested) if _STARTED.fullmatch(path.stem)]
    return next((path for path in (scalars, *others) if path.is_file()), scalars)


def _when(named: Path, dated: Path | None = None) -> str:
    match = _STARTED.search(named.name)
    if match:
        return match[0]
    return time.strftime("%Y%m%d_%H%M%S", time.localtime((dated or named).stat().st_mtime))


def _add_facts_beside(log: Path, run: LogRun) -> None:
    """Fill in facts that the log lacks from the configuration saved beside it."""
    config = log.parent / "config.py"
    try:
        if config.is_file() and config.stat().st_size < _CONFIG_BYTES:
            run.facts.fill(read_config(config.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return


_PATTERNS = ("*.log", "vis_data/*.json", "*.log.json", "measurements.jsonl")
_TIME = re.compile(r"\d{8}_\d{6}$")
#: A folder with more files than this is not a work dir; the search ends there.
_MOST_FILES = 50_000


def newest_work_dir(folder: Path) -> Path:
    """Return the work dir (or run directory) below `folder` whose log was written last.

    Raises:
        InputError: there is no log below it.
    """
    if folder.is_file():
        return folder
    newest: tuple[float, Path] | None = None
    for path in itertools.islice(_below(folder), _MOST_FILES):
        if not any(path.match(pattern) for pattern in _PATTERNS) or not path.is_file():
            continue
        changed = path.stat().st_mtime
        if newest is None or changed > newest[0]:
            newest = (changed, path)
    if newest is None:
        raise InputError(
            f'There is no training log below "{folder}". Give the work dir: pcan log WORKDIR'
        )
    return work_dir_of(newest[1], folder)


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, without those that vanish meanwhile."""
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def work_dir_of(log: Path, within: Path) -> Path:
    """Return the work dir that a log file belongs to, not above `within`."""
    # A trial keeps logs of its own below its run directory (W&B's among them).
    for above in log.parents:
        if is_trial(above):
            return above
        if above == within:
            break
    folder = log.parent
    if folder.name == "vis_data" and folder != within:
        folder = folder.parent
    if _TIME.fullmatch(folder.name) and folder != within:
        folder = folder.parent
    return folder
