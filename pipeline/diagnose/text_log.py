"""Text logs of MMEngine (MMAction2 1.x, MMPretrain, ..) and of MMCV 1.x (mmaction2 0.x, PYSKL).

    2024/10/19 23:58:00 - mmengine - INFO - Epoch(val) [50][4/4]    acc/top1: 0.7368  ..
    2023-03-07 14:43:09,747 - pyskl - INFO - Epoch(val) [4][26]     top1_acc: 0.9939, ..

Only lines with an epoch header and a few markers are looked at; other output (tensors,
progress bars, tables of weights) is skipped without a Python loop.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.diagnose.blocks import Block, blocks
from pipeline.diagnose.config_facts import read_config
from pipeline.diagnose.curve import Evaluation, LogRun
from pipeline.diagnose.fields import metrics, training_top1
from pipeline.errors import InputError

_HEADER = re.compile(
    rb"Epoch(?:\((train|val)\))? *\[ *(\d{1,9})\]\[ *(\d{1,12})(?:/(\d{1,12}))?\]"
)
_LR = re.compile(rb"[\s](base_lr|lr): (\d[^\s,]*)[\s,]")
#: Behind a base_lr: the rate of the first parameter group.
_OTHER_LR = re.compile(rb"[\s]lr: (\d[^\s,]*)[\s,]")
_TRAIN_TOP1 = re.compile(rb"(?<=[\s])([^\s,]*top[-_]?1(?!\d)[^\s,]*): ([\d.]+)(?=[\s,])")
_TEST = re.compile(rb"Epoch\(test\) *\[ *(\d{1,12})/(\d{1,12})\]([^\n]*)(\n?)")
_GPUS = re.compile(rb"GPU number: (\d{1,6})")
_LOSS = re.compile(rb"[\s]loss: ([-\d.eE+]+|-?nan|-?inf)(?=[\s,]|$)")
_STAMP = re.compile(rb"^(?:\x1b\[[\d;]*m)*(?:\d{4}[-/])?\d\d[-/]\d\d \d\d:\d\d:\d\d", re.MULTILINE)
_LOGGED = re.compile(
    _STAMP.pattern + rb"[^\n]{0,200} - (?:\x1b\[[\d;]*m)*(?:INFO|WARNING|ERROR)", re.M
)
_RESUMED = re.compile(rb"resumed (?:from )?epoch:? (\d{1,9})")
_WORKFLOW = re.compile(rb"max: (\d{1,9}) epochs")
_CHECKPOINT = re.compile(rb"oads? checkpoint from (?:local path: |http path: |path: )?(\S+)")
_ERROR = re.compile(rb"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b[^\n\r]*", re.MULTILINE)
_STOPPED = re.compile(rb"the monitored metric did not improve in the last (\d+) records[^\n\r]*")
#: An epoch as programs of other kinds log it: "Epoch 3/35, loss ..", "[Epoch 03/240] | LR: ..".
_FOREIGN = tuple(
    re.compile(rb"^(?![^\n]*resumed)[^\n]*?\bepoch\b\W{0,3}\d+" + rest + rb"[^\n]*", re.M | re.I)
    for rest in (rb" ?/ ?\d+", rb"\b(?!\]\[)")
)
#: What MMEngine and MMCV print before the first epoch.
_OURS = re.compile(rb"(?i)environment info|Config:|\b(?:mm\w+|pyskl) - (?:INFO|WARNING|ERROR)")
#: What torchrun, NCCL, the kernel and SLURM print of a program that they ended.
_ENDED = re.compile(
    rb"Watchdog caught collective operation timeout|Signal \d+ \(SIG[A-Z]+\)|DUE TO [A-Z ]+|"
    rb"oom[-_]kill|Segmentation fault|Bus error|Fatal Python error"
)
#: What a run prints about itself besides its epochs, searched block by block.
_MARKERS = (
    b"Config:",
    b"resumed ",
    b"workflow: [",
    b"oad checkpoint from",
    b"did not improve in the last",
    b"Traceback (most recent",
    b"Iter(val)",
    b"Iter [",
    b"Epoch(test)",
    b"GPU number: ",
    b"Watchdog caught",
    b" (SIG",
    b" DUE TO ",
    b"oom-kill",
    b"oom_kill",
    b"Segmentation fault",
    b"Bus error",
    b"Fatal Python error",
)
#: A longer configuration is damage.
_LONGEST_CONFIG = 2 << 20

_Event = tuple[int, re.Match[bytes] | None]


def text_runs(pieces: Iterable[Path]) -> tuple[list[LogRun], str]:
    """Read a text log.

    Args:
        pieces: the files it was rotated into, oldest first; mostly one.

    Returns:
        The runs in the order they were started, and the name of the format.

    Raises:
        InputError: it contains no line of a training program.
    """
    reader, last = _Reader(), None
    for last in pieces:
        for block in blocks(last):
            reader.read(block)
    runs = reader.finish()
    if reader.foreign is not None:
        line, text = reader.foreign
        raise InputError(
            f"{last} is the log of another program, in a form that pcan does not read (line "
            f"{line}: {text}). Write its validations as a table: epoch,top1[,lr] (CSV), numbered "
            "1, 2, 3."
        )
    if not reader.recognised:
        raise InputError(
            f"{last} is not a training log that pcan knows (MMEngine or MMCV text, scalars.json, "
            ".log.json, measurements.jsonl, a CSV that starts with epoch,top1[,lr], or a training "
            "history in JSON)."
        )
    return runs, reader.format


class _Reader:
    """Reads a text log once, block by block."""

    def __init__(self) -> None:
        self.format = "text log"
        self.runs = [LogRun()]
        self._config: bytearray | None = None
        self._stamped = False
        self._foreign: tuple[int, str] | None = None

    def read(self, block: Block) -> None:
        """Read the next block of whole lines."""
        data = block.data
        self._look_whose(data, block.line)
        line, counted = block.line, 0
        if self._config is not None:
            self._collect_config(data, 0)
        if b"Iter(train) [" in data:
            self.runs[-1].facts.by_iteration = True
        for at, header, end in _events(data):
            line += data.count(b"\n", counted, at)
            counted = at
            if header is None:
                self._marker(data, at, line)
            else:
                stop = data.find(b"\n", header.end(), end)
                whole = stop >= 0
                if header[1] == b"val":
                    self._validation(
                        header, data[header.end() : stop if whole else end], whole, line
                    )
                else:
                    self._training(header, data, stop if whole else end, whole, line)

    def _look_whose(self, data: bytes, first: int) -> None:
        """Look for what the programs print before their first epoch, and for others' epochs."""
        if not self._stamped:
            self._stamped = bool(_LOGGED.search(data) and _OURS.search(data))
        if self._foreign is None and not any(self.runs):
            found = next((f for pattern in _FOREIGN if (f := pattern.search(data))), None)
            if found is not None:
                self._foreign = first + data.count(b"\n", 0, found.start()), _text(found[0])[:80]

    @property
    def recognised(self) -> bool:
        """Whether anything so far looks like a training program's log."""
        return self._stamped or any(run or run.has_header for run in self.runs)

    @property
    def foreign(self) -> tuple[int, str] | None:
        """Return (line, text) of the first epoch of another program, if the log has no other."""
        known = (run.facts.test or run.facts.by_iteration or run.facts.config for run in self.runs)
        return None if any(self.runs) or any(known) else self._foreign

    def finish(self) -> list[LogRun]:
        """Return the runs, in order."""
        self._end_config()
        return self.runs

    def _validation(self, header: re.Match[bytes], rest: bytes, whole: bool, line: int) -> None:
        _, epoch, step, total = header.groups()
        # A validation prints its progress under the same header; only the last line counts.
        if total is None or int(step) == int(total):
            self.format = "MMEngine text log" if total else "MMCV text log"
            run, found = self.runs[-1], metrics(rest, whole)
            if found:
                run.in_order(int(epoch), line)
                run.validate(int(epoch), found, line)
            elif whole:
                run.facts.no_metric = (int(epoch), line)
            run.facts.val_iterations = int(step)

    def _training(
        self, header: re.Match[bytes], data: bytes, stop: int, whole: bool, line: int
    ) -> None:
        # Searched in place, without a copy: these lines are nearly all of a large log.
        rate, loss = _LR.search(data, header.end(), stop), _LOSS.search(data, header.end(), stop)
        if not (rate or loss):
            return
        run = self.runs[-1]
        run.facts.traceback = None
        self.format = "MMEngine text log" if header[1] else "MMCV text log"
        if header[4]:
            done = (int(header[2]) - 1) * int(header[4]) + int(header[3])
            run.facts.steps = max(done, run.facts.steps or 0)
        cut = loss is not None and loss.end() == stop and not whole
        run.in_order(int(header[2]), line)
        lr = _float(rate[2]) if rate else None
        if rate and rate[1] == b"base_lr":
            other = _OTHER_LR.search(data, rate.end() - 1, stop)
            run.rate(int(header[2]), "base_lr", lr, _float(other[1]) if other else None)
        run.train(
            int(header[2]),
            lr,
            _float(loss[1]) if loss and not cut else None,
            line,
            _training_top1(data, header.end(), stop),
        )

    def _marker(self, data: bytes, at: int, line: int) -> None:
        stop = data.find(b"\n", at)
        text = data[data.rfind(b"\n", 0, at) + 1 : stop if stop >= 0 else len(data)]
        facts = self.runs[-1].facts
        if data.startswith(b"Config:", at):
            self._begin_run()
            self._collect_config(data, at + len(b"Config:"))
        elif match := _RESUMED.search(text):
            facts.resumed_epoch = int(match[1])
        elif match := _WORKFLOW.search(text):
            facts.max_epochs = facts.max_epochs or int(match[1])
        elif match := _STOPPED.search(text):
            facts.stop_message = (line, _text(match[0]))
        elif b"Traceback (most recent" in text or _ENDED.search(text):
            facts.traceback = _failure(facts.traceback, data, at, line, text)
        elif match := _GPUS.search(text):
            facts.gpus = int(match[1])
        elif match := _TEST.search(data, at):
            done, total, rest, end = match.groups()
            result = metrics(rest, bool(end)) if done == total else {}
            facts.test = Evaluation(done=int(done), total=int(total), metrics=result)
        elif b"Iter(val)" in text or b" Iter [" in text:
            facts.by_iteration = True
        elif (match := _CHECKPOINT.search(text)) and not self.runs[-1]:
            facts.load_from = facts.load_from or _text(match[1])

    def _begin_run(self) -> None:
        self._end_config()
        if self.runs[-1]:
            self.runs.append(LogRun())
        self.runs[-1].has_header = True
        self._config = bytearray()

    def _collect_config(self, data: bytes, start: int) -> None:
        assert self._config is not None
        end = _STAMP.search(data, start)
        self._config += data[start : end.start() if end else len(data)]
        if end or len(self._config) > _LONGEST_CONFIG:
            self._end_config()

    def _end_config(self) -> None:
        if self._config is not None:
            facts = read_config(bytes(self._config[:_LONGEST_CONFIG]).decode("utf-8", "replace"))
            earlier, self.runs[-1].facts = self.runs[-1].facts, facts
            facts.fill(earlier)
            self._config = None


def _failure(
    earlier: tuple[int, str] | None, data: bytes, at: int, line: int, text: bytes
) -> tuple[int, str]:
    """Return (line, message) of what ended the program; a traceback says more than a signal."""
    if b"Traceback (most recent" in text:
        error = _ERROR.search(data, at)
        return line, _text(error[0]) if error else "Traceback"
    return earlier or (line, _text(text))


def _events(data: bytes) -> Iterator[tuple[int, re.Match[bytes] | None, int]]:
    """Yield (position, epoch header or None for a marker, where the next event begins)."""
    events: list[_Event] = [(m.start(), m) for m in _HEADER.finditer(data)]
    marks = list(_marks(data))
    if marks:
        events = sorted(events + marks, key=lambda event: event[0])
    for i, (at, header) in enumerate(events):
        yield at, header, events[i + 1][0] if i + 1 < len(events) else len(data)


def _marks(data: bytes) -> Iterator[_Event]:
    for marker in _MARKERS:
        at = data.find(marker)
        while at >= 0:
            yield at, None
            at = data.find(marker, at + len(marker))


def _training_top1(data: bytes, start: int, stop: int) -> float | None:
    """Return the training accuracy in a line; a number cut off at its end is left out."""
    if data.find(b"top", start, stop) < 0:
        return None
    found = _TRAIN_TOP1.findall(data, start, stop)
    values = {name.decode("utf-8", "replace"): _float(value) for name, value in found}
    return training_top1(values)


def _float(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip()[:300]
