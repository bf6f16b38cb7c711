"""What the columns of a table mean, by the names that programs give them.

Keras       epoch,accuracy,learning_rate,loss,val_accuracy,val_loss
Lightning   epoch,step,train_loss_step,train_loss_epoch,val_acc; a row for training, one for
            the validation, one without an epoch for the rate
fastai      epoch,train_loss,valid_loss,accuracy,time: here `accuracy` is the validation's
timm        epoch,train_loss,eval_loss,eval_top1,eval_top5,lr
Ultralytics epoch,time,train/loss,metrics/accuracy_top1,val/loss,lr/pg0
pandas      an index without a name, then Keras' columns
"""

import dataclasses
import re

from pipeline.diagnose.fields import NOT_METRICS

KNOWN = frozenset({"epoch", "lr", "loss", "top1", "rgb_top1", "pose_top1"})
_DELIMITERS = (",", ";", "\t")
_LR = re.compile(r"(?:train_)?lr|learning[_ ]?rate|lr[-/]\S+", re.IGNORECASE)
#: In this order: the mean of an epoch before the last step's.
_LOSSES = (
    re.compile(r"loss|(?:train|training)[-_/ ]?loss(?:_epoch)?|loss/train", re.IGNORECASE),
    re.compile(r"(?:train|training)[-_/ ]?loss_step", re.IGNORECASE),
)
_TRAIN_ACCURACY = re.compile(
    r"(?:train|training)[-_/ ]?(?:acc(?:uracy)?|top[-_]?1)(?:_epoch)?", re.IGNORECASE
)
_TRAINING = re.compile(r"(?:train|training)(?![a-z])|.*(?:/train|_step)$", re.IGNORECASE)
_VALIDATION = re.compile(r"(?:val|eval|valid|validation)[-_/ ]", re.IGNORECASE)
_TESTED = re.compile(r"test[-_/ ]", re.IGNORECASE)
_PLAIN_ACCURACY = re.compile(r"(?:\w+_)?acc(?:uracy)?", re.IGNORECASE)
_OF_MACHINE = re.compile(
    r"batch|iteration|elapsed\S*|phase|.*time(?:_s(?:ec)?)?|_step|_timestamp|lr[-_/]\S+|"
    r"learning[_ ]?rate|n_parameters|grad_norm|total_flos|.*per_second",
    re.IGNORECASE,
)
#: What W&B's table of runs has; each row of it is another training.
_OF_RUNS = (frozenset({"Name", "State", "Runtime"}), frozenset({"_runtime", "_timestamp", "id"}))
#: What shows that a first line is a header of a table about a training.
_ABOUT_TRAINING = re.compile(r"loss|acc|top[-_]?1(?!\d)|^value$", re.IGNORECASE)
#: pandas writes its index under an empty name.
_INDEX = frozenset({"", "Unnamed: 0"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table.

    Args:
        names: of all columns, in their order.
        epoch: the column that numbers the rows.
        lr, loss, train_top1: of the training, None without such a column.
        metrics: of a validation.
        tests: of a test beside the validation.
    """

    delimiter: str
    names: list[str]
    epoch: str = "epoch"
    lr: str | None = None
    loss: str | None = None
    train_top1: str | None = None
    metrics: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


def csv_columns(first_lines: bytes) -> Columns | None:
    """Return the columns if the first line after comments is a header with `epoch`."""
    for delimiter, names in _headers(first_lines):
        if len(names) < 2 or len(set(names)) < len(names):
            continue
        if "epoch" in names:
            return _columns(delimiter, names, "epoch")
        if names[0] in _INDEX and any(_ABOUT_TRAINING.search(name) for name in names):
            return _columns(delimiter, names, names[0])
    return None


def columns_of(names: list[str]) -> Columns:
    """Return the roles of named columns, one of which is `epoch`."""
    return _columns(",", names, "epoch")


def table_of_runs(first_lines: bytes) -> bool:
    """Whether each row is a training of its own, as in the table of runs that W&B exports."""
    return any(of_runs <= set(names) for _, names in _headers(first_lines) for of_runs in _OF_RUNS)


def table_without_epochs(first_lines: bytes) -> list[str] | None:
    """Return the columns of a table about a training that numbers no epochs."""
    for _, names in _headers(first_lines):
        if len(names) >= 2 and any(_ABOUT_TRAINING.search(name) for name in names):
            plain = all(re.fullmatch(r"[A-Za-z_][\w ./@-]{0,60}", name) for name in names)
            return names if plain else None
    return None


def _headers(first_lines: bytes) -> list[tuple[str, list[str]]]:
    """Return the first line after comments, split by each delimiter."""
    for line in first_lines.decode("utf-8", "replace").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return [
                (delimiter, [_name(cell.strip().strip('"')) for cell in line.split(delimiter)])
                for delimiter in _DELIMITERS
            ]
    return []


def _columns(delimiter: str, names: list[str], epoch: str) -> Columns:
    others = [name for name in names if name != epoch]
    found = {
        "lr": _first(others, _LR),
        "loss": next((name for p in _LOSSES if (name := _first(others, p))), None),
        "train_top1": _training_accuracy(others),
    }
    left = [
        name
        for name in others
        if name not in found.values()
        and name not in NOT_METRICS
        and not _TRAINING.match(name)
        and not _OF_MACHINE.fullmatch(name)
        and not _has_twin(name, others)
    ]
    validated = [name for name in left if not _TESTED.match(name)]
    # A table with only `test_acc` beside the training's loss validates on its test set.
    tests = [name for name in left if name not in validated]
    if tests and not validated and "step" not in names:
        validated, tests = tests, []
    return Columns(
        delimiter=delimiter,
        names=names,
        epoch=epoch,
        metrics=tuple(validated),
        tests=tuple(tests),
        **found,
    )


def _training_accuracy(names: list[str]) -> str | None:
    """Return the column of the training's accuracy.

    Keras names it `accuracy` beside `val_accuracy`. Where the training's loss has a name of its
    own (`train_loss`), a plain `accuracy` is the validation's.
    """
    if named := _first(names, _TRAIN_ACCURACY):
        return named
    plain = [name for name in names if _PLAIN_ACCURACY.fullmatch(name)]
    twin = next((name for name in plain if _has_twin(name, names)), None)
    if twin or "loss" not in names or not any(_VALIDATION.match(name) for name in names):
        return twin
    return next((name for name in plain if not _VALIDATION.match(f"{name}_")), None)


def _has_twin(name: str, names: list[str]) -> bool:
    """Whether the same quantity is there as the validation's too."""
    if _VALIDATION.match(name):
        return False
    return any(_VALIDATION.sub("", other, count=1) == name for other in names if other != name)


def _first(names: list[str], pattern: re.Pattern[str]) -> str | None:
    return next((name for name in names if pattern.fullmatch(name)), None)


def _name(cell: str) -> str:
    """Return a column's name as written; the known ones in lower case."""
    return cell.lower() if cell.lower() in KNOWN else cell
