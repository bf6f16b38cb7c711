"""Predictions from any two files: clip, label, and the class or the scores that it was given.

CSV, TSV, JSON and JSON lines with those names, and the files that runs keep
(`predictions/*.bin`). Clips are matched by name where both files have names, else by their order,
which the labels prove.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.report.stats.differences import between
from pipeline.report.stats.kept_scores import unpack
from pipeline.report.stats.readings import Reading, store_of
from pipeline.shared.clip_scores import ClipScores
from pipeline.shared.counted import counted
from pipeline.shared.files import parsed
from pipeline.shared.fusion import fuse, guesses
from pipeline.shared.predictions import Predictions

#: What the predicted class may be called in a file.
CLASS_KEYS = ("class", "pred", "predicted", "prediction", "pred_label")
LABEL_KEYS = ("label", "gt_label", "true", "truth")
CLIP_KEYS = ("clip", "id", "name", "video", "frame_dir", "filename")
SCORE_KEYS = ("scores", "score", "pred_score", "pred_scores")
FORM = "clip,label,class (or scores: one number a class)"


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """One file of predictions.

    Args:
        clips: names; None where the file has none.
        ids: digest of the clips in a file that a run kept.
    """

    path: Path
    clips: Sequence[str] | None
    labels: Sequence[str]
    predicted: Sequence[str]
    ids: str | None = None


def compare_files(first: Path, second: Path) -> dict[str, Any]:
    """Return the paired comparison of two files of predictions, as `--json` prints it.

    Raises:
        InputError: one cannot be read, or they are not of the same clips.
    """
    a, b = read_predictions(first), read_predictions(second)
    b = _in_order_of(a, b)
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    found = between(_reading(a, names[0]), _reading(b, names[1]))
    assert found is not None
    return {
        "schema": 1,
        "first": {"file": str(first), "top1": _top1(a)},
        "second": {"file": str(second), "top1": _top1(b)},
        **found,
    }


def _reading(file: PredictionFile, name: str) -> Reading:
    pairs = zip(file.labels, file.predicted, strict=True)
    bits = int("".join("01"[label == guess] for label, guess in pairs), 2)
    return Reading(
        trial=name,
        top1=_top1(file),
        clips=len(file.labels),
        right=bits,
        ids=None,
        lacking="",
        metric=None,
        store=store_of(None),
    )


def _top1(file: PredictionFile) -> float:
    pairs = zip(file.labels, file.predicted, strict=True)
    return sum(label == guess for label, guess in pairs) / len(file.labels)


def read_predictions(path: Path) -> PredictionFile:
    """Return the predictions of a file.

    Raises:
        InputError: it cannot be read, or lacks what is needed; the text says what would be right.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if content.startswith(Predictions.MAGIC):
        return _kept(path, content)
    if content.startswith(ClipScores.MAGIC):
        return _scores(path, content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file of predictions. Write {FORM}.") from None
    rows = _rows(path, text)
    if not rows:
        raise InputError(f"{path} holds no predictions. Write a head line and rows: {FORM}.")
    return _columns(path, rows)


def _kept(path: Path, content: bytes) -> PredictionFile:
    try:
        kept = Predictions.from_bytes(content)
    except ValueError as error:
        raise InputError(f"{path} cannot be used: {error}.") from None
    labels, predicted = list(map(str, kept.labels)), list(map(str, kept.predicted))
    if not labels:
        raise InputError(f"{path} holds no predictions.")
    return PredictionFile(path=path, clips=None, labels=labels, predicted=predicted, ids=kept.ids)


def _scores(path: Path, content: bytes) -> PredictionFile:
    """Return the classes that kept scores give at the objective's own ratio."""
    try:
        kept = unpack(content)
    except ValueError as error:
        raise InputError(f"{path} cannot be used: {error}.") from None
    taken = guesses(fuse(kept.branches, kept.own_share))
    labels, predicted = ([str(one) for one in column.tolist()] for column in (kept.labels, taken))
    unique = all(kept.names) and len(set(kept.names)) == len(kept.names)
    clips = kept.names if unique else None
    return PredictionFile(path=path, clips=clips, labels=labels, predicted=predicted, ids=kept.ids)


def _rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    whole = parsed(text)
    if isinstance(whole, dict):
        whole = whole.get("predictions") if "predictions" in whole else [whole]
    if whole is None and text.lstrip().startswith("{"):
        whole = [parsed(line) for line in text.splitlines() if line.strip()]
    if isinstance(whole, list):
        if not all(isinstance(row, dict) for row in whole):
            raise InputError(f"{path} is JSON, but not a list of objects with {FORM}.")
        return [{str(key).lower(): value for key, value in row.items()} for row in whole]
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    return [{str(k).strip().lower(): v for k, v in row.items()} for row in reader]


def _columns(path: Path, rows: Sequence[Mapping[str, Any]]) -> PredictionFile:
    clip, label = _named(rows[0], CLIP_KEYS), _named(rows[0], LABEL_KEYS)
    guess, scores = _named(rows[0], CLASS_KEYS), _named(rows[0], SCORE_KEYS)
    if label is None or (guess is None and scores is None):
        has = ", ".join(rows[0]) or "nothing"
        raise InputError(f"{path} has {has}. It needs {FORM}.")
    labels, predicted = [], []
    for number, row in enumerate(rows, 1):
        labels.append(_class(path, number, row.get(label)))
        if guess is not None:
            given = row.get(guess)
        else:
            given = _highest(path, number, row.get(str(scores)))
        predicted.append(_class(path, number, given))
    names = [str(row.get(clip)).strip() for row in rows] if clip is not None else None
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise InputError(f'{path} names the clip "{twice}" twice.')
    return PredictionFile(path=path, clips=names, labels=labels, predicted=predicted)


def _named(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _class(path: Path, number: int, value: Any) -> str:
    """Return a class as text; 3, 3.0 and "3" are the same one."""
    text = "" if value is None else str(value).strip()
    if not text:
        raise InputError(f"{path}, row {number}: a label or a class is missing.")
    try:
        as_number = float(text)
    except ValueError:
        return text
    return str(int(as_number)) if as_number.is_integer() else text


def _highest(path: Path, number: int, value: Any) -> int:
    """Return the class with the highest score; of equals the last, as MMAction2 takes it."""
    found = parsed(value) if isinstance(value, str) else value
    if isinstance(value, str) and found is None:
        found = [parsed(word) for word in value.replace(";", " ").replace(",", " ").split()]
    good = isinstance(found, list) and found and all(_is_score(score) for score in found)
    if not good:
        raise InputError(f"{path}, row {number}: the scores are not one finite number a class.")
    return max(range(len(found)), key=lambda at: (found[at], at))


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _in_order_of(a: PredictionFile, b: PredictionFile) -> PredictionFile:
    """Return `b` with its clips in the order of `a`.

    Raises:
        InputError: they are not the same clips, or have other labels.
    """
    if len(a.labels) != len(b.labels):
        raise InputError(
            f"{a.path} has {counted(len(a.labels), 'clip')} and {b.path} has {len(b.labels)}. "
            "A paired test needs the same clips in both."
        )
    if None not in (a.ids, b.ids) and a.ids != b.ids:
        raise InputError(
            f"{a.path} and {b.path} were validated on different clips. A paired test needs the "
            "same clips in both."
        )
    if a.clips is not None and b.clips is not None:
        place = {name: at for at, name in enumerate(b.clips)}
        missing = [name for name in a.clips if name not in place]
        if missing:
            raise InputError(
                f"{b.path} lacks {counted(len(missing), 'clip')} of {a.path}, such as "
                f'"{missing[0]}".'
            )
        order = [place[name] for name in a.clips]
        labels, predicted = ([column[at] for at in order] for column in (b.labels, b.predicted))
        b = PredictionFile(path=b.path, clips=a.clips, labels=labels, predicted=predicted)
    for number, (one, other) in enumerate(zip(a.labels, b.labels, strict=True), 1):
        if one != other:
            clip = f'"{a.clips[number - 1]}"' if a.clips else f"number {number}"
            raise InputError(
                f"Clip {clip} has the label {one} in {a.path} and {other} in {b.path}. They are "
                "of different clips, or in another order; a column with clip names settles that."
            )
    return b
