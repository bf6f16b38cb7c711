"""Logs of one JSON object a line: MMEngine's scalars.json, MMCV's .log.json, our own.

scalars.json   {"lr": .., "loss": .., "epoch": 1, "iter": 20, "step": 20}   training
               {"acc/top1": 0.7251, "time": .., "step": 5}                  validation of epoch 5
.log.json      {"mode": "train", "epoch": 1, "iter": 50, "lr": .., "loss": ..}
               {"mode": "val", "epoch": 4, "iter": 26, "lr": .., "top1_acc": 0.9939}
measurements   {"epoch": 1, "lr": 0.003, "top1": 0.8832, "rgb_top1": .., "loss": 2.1, ..}
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.diagnose.blocks import blocks
from pipeline.diagnose.config_facts import read_config
from pipeline.diagnose.curve import Evaluation, LogRun
from pipeline.diagnose.fields import is_metric, is_number, number, training_top1, whole
from pipeline.shared.measurement import Measurement

Record = dict[str, Any]
_decode = json.JSONDecoder().raw_decode
#: Validations whose numbers are all multiples of at least this are numbered by iteration.
ITERATIONS = 100
_POSITION = frozenset({"epoch", "step", "mode"})


def json_format(first_lines: bytes) -> str | None:
    """Name the JSON format that the first lines show; None for any other."""
    for line in first_lines.decode("utf-8", "replace").splitlines()[:200]:
        record = _parse(line)
        if record is None:
            continue
        if "top1" in record and "epoch" in record and "mode" not in record:
            return "measurements"
        if record.get("mode") in ("train", "val"):
            return "MMCV json log"
        if "step" in record:
            return "MMEngine scalars"
        if "env_info" in record or isinstance(record.get("config"), str):
            # The first line of MMCV's .log.json; a run that never began has only this one.
            return "MMCV json log"
        if "epoch" in record:
            return None  # a record an epoch: json_table
        if record and all(is_number(value) for value in record.values()):
            return "MMEngine test result"
    return None


def json_run(path: Path, format: str) -> LogRun:
    """Read a JSON log of the named format."""
    take = _TAKERS[format]
    run = LogRun()
    for line, record in _records(path):
        take(run, record, line)
    _drop_iterations(run)
    return run


def _records(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield (line, record); a last line without its newline counts if its braces are closed."""
    for block in blocks(path):
        text = block.data.decode("utf-8", "replace")
        for line_number, line in enumerate(text.split("\n"), block.line):
            record = _parse(line)
            if record is not None:
                yield line_number, record


def _parse(line: str) -> Record | None:
    if line[:1] != "{":
        return None
    try:
        # What `json.loads` does, without its checks of the type: half the time.
        record, end = _decode(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and not line[end:].strip() else None


def _take_scalars(run: LogRun, record: Record, line: int) -> None:
    epoch, step = whole(record.get("epoch"), least=0), whole(record.get("step"), least=0)
    if "loss" in record or "lr" in record:
        if epoch is None:
            run.facts.by_iteration = run.facts.by_iteration or "iter" in record
        else:
            _add_training(run, epoch, record, line)
            run.last_step = step
            run.facts.steps = max(step or 0, run.facts.steps or 0) or None
        return
    if epoch is None and step is not None and not run.facts.by_iteration:
        # Some runs number their validations by iteration: then the epoch is the one trained last.
        last = run.last_trained
        by_iteration = last is not None and step > last and step >= (run.last_step or step + 1)
        run.validate(last if last is not None and by_iteration else step, _metrics(record), line)


def _take_mmcv(run: LogRun, record: Record, line: int) -> None:
    epoch, mode = whole(record.get("epoch"), least=0), record.get("mode")
    if mode is None:
        _take_header(run, record)
    if epoch is None or run.facts.by_iteration:
        return
    # MMCV calls a validation "train" where its hook logs one beside training's own interval.
    if mode == "train" and not (_is_validation(record) and _metrics(record)):
        _add_training(run, epoch, record, line)
        steps = epoch * (whole(record.get("iter")) or 0)
        run.facts.steps = max(steps, run.facts.steps or 0) or None
    elif mode in ("train", "val"):
        run.validate(epoch, _metrics(record), line)
        run.facts.val_iterations = whole(record.get("iter")) or run.facts.val_iterations


def _is_validation(record: Record) -> bool:
    """Whether a record of MMCV lacks all that every record of training has."""
    return not any(name == "time" or "loss" in name for name in record)


def _take_header(run: LogRun, record: Record) -> None:
    """Take the first line of a .log.json: the setup of the run.

    With an epoch in it, it is that of the checkpoint that the run resumed from, whose
    configuration (data, classes, epochs) may be another run's.
    """
    run.has_header = True
    run.facts.resumed_epoch = whole(record.get("epoch"))
    if run.facts.resumed_epoch is None and isinstance(record.get("config"), str):
        run.facts.fill(read_config(record["config"]))


def _take_test(run: LogRun, record: Record, _line: int) -> None:
    run.facts.test = Evaluation(done=0, total=0, metrics=_metrics(record))


def _add_training(run: LogRun, epoch: int, record: Record, line: int) -> None:
    lr = _lr(record)
    if "base_lr" in record:
        run.rate(epoch, "base_lr", lr, number(record.get("lr")))
    elif isinstance(record.get("lr"), dict):
        run.rate(epoch, f"rate of {next(iter(record['lr']), 'no optimizer')}", lr, None)
    run.train(epoch, lr, number(record.get("loss")), line, training_top1(record))


def _drop_iterations(run: LogRun) -> None:
    """Recognise validations without any training that are numbered by iteration."""
    steps = [point.epoch for point in run.points() if point.epoch > 0]
    if run.last_trained is None and len(steps) > 1 and math.gcd(*steps) >= ITERATIONS:
        run.facts.by_iteration = True
        run.clear()


def _take_measurement(run: LogRun, record: Record, line: int) -> None:
    try:
        measured = Measurement.from_line(json.dumps(record))
    except (ValueError, TypeError):
        return
    if run.has(measured.epoch):
        # The first report of an epoch counts, here as in the study.
        return
    named = {
        "top1": record["top1"],
        "rgb_top1": measured.rgb_top1,
        "pose_top1": measured.pose_top1,
    }
    extra = measured.extra if isinstance(measured.extra, dict) else {}
    run.train(measured.epoch, number(measured.lr), number(measured.loss), line)
    run.validate(measured.epoch, _metrics(named) | _metrics(extra), line)


_TAKERS: dict[str, Callable[[LogRun, Record, int], None]] = {
    "MMEngine scalars": _take_scalars,
    "MMCV json log": _take_mmcv,
    "measurements": _take_measurement,
    "MMEngine test result": _take_test,
}


def _metrics(record: Record) -> dict[str, float]:
    values = {
        name: number(value)
        for name, value in record.items()
        if name not in _POSITION and is_metric(name)
    }
    return {name: value for name, value in values.items() if value is not None}


def _lr(record: Record) -> float | None:
    lr = record.get("base_lr", record.get("lr"))
    if isinstance(lr, dict):
        # Several optimisers: MMCV logs {name: rate}.
        lr = next(iter(lr.values()), None)
    return number(lr)
