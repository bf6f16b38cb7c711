"""What a start of a job ran with, in words, and what differs between the starts of a trial.

A record is a line of `starts.jsonl`. Python 3.8 and the standard library.
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from pipeline.shared.counted import counted
from pipeline.shared.files import moment
from pipeline.shared.measurement import Measurement

Record = Mapping[str, Any]
#: The checkouts of a record, in the order in which they are shown.
PLACES = ("project", "code_root")
_TITLES = {"project": "project", "code_root": "job.code_root"}


def shown_code(code: Optional[Record]) -> str:
    """Return one checkout in a few words: "1a2b3c4d on main, 2 files not committed"."""
    if not code:
        return "unknown"
    if not code.get("commit"):
        return str(code.get("note") or "unknown")
    branch = f" on {code['branch']}" if code.get("branch") else ""
    return f"{str(code['commit'])[:8]}{branch}{_uncommitted(code)}"


def _uncommitted(code: Record) -> str:
    if code.get("dirty") is None and code.get("note"):
        return f", {code['note']}"
    if not code.get("dirty"):
        return ""
    count = code.get("changed")
    digest = str(code.get("diff_sha256") or "")[:8]
    files = counted(count, "file") if count else "changes"
    return f", {files} not committed" + (f" (diff {digest})" if digest else "")


def shown_codes(codes: Optional[Record]) -> Dict[str, str]:
    """Return the checkouts of a record in words, by place; unused places are left out."""
    found = codes or {}
    return {_TITLES[place]: shown_code(found[place]) for place in PLACES if found.get(place)}


def shown_gpu(gpu: Optional[Record]) -> str:
    """Return a record's GPUs in words: "2 x NVIDIA H200, driver 550.54"; "CPU" without any."""
    if not gpu:
        return "CPU"
    names = [str(name) for name in gpu.get("names") or []]
    kinds = [f"{names.count(n)} x {n}" if names.count(n) > 1 else n for n in dict.fromkeys(names)]
    driver = f", driver {gpu['driver']}" if gpu.get("driver") else ""
    return ", ".join(kinds) + driver


def seconds_of_jobs(starts: Sequence[Record], history: Sequence[Measurement]) -> float:
    """Return how long the jobs of a trial ran: from each start to the last epoch it measured.

    Epochs of an attempt whose start has no time count as long as they took themselves.
    """
    began = {int(one.get("attempt") or 0): moment(one.get("time")) for one in starts}
    total = 0.0
    for attempt in sorted({m.attempt for m in history}):
        epochs = [m for m in history if m.attempt == attempt]
        ended = [end for end in (moment(m.time) for m in epochs) if end is not None]
        start = began.get(attempt)
        if start is None or not ended:
            total += sum(m.seconds or 0.0 for m in epochs)
        else:
            total += max(0.0, max(ended) - start)
    return total


def start_of(starts: Sequence[Record], attempt: int) -> Optional[Record]:
    """Return the record of an attempt, the latest at or before it; None where none is known."""
    found = [one for one in starts if int(one.get("attempt") or 0) <= attempt]
    return found[-1] if found else None


#: What stands for the code of a trial whose starts were not recorded.
UNRECORDED = {
    "project": {
        **dict.fromkeys(("commit", "branch", "dirty", "diff")),
        "note": "not recorded at the trial's start",
    },
    "code_root": None,
}


def code_of_attempt(starts: Sequence[Record], attempt: int) -> Dict[str, Any]:
    """Return the code that an attempt ran with, as `best.json` holds it under `code`."""
    found = start_of(starts, attempt)
    return dict((found or {}).get("code") or UNRECORDED)


def changes(starts: Sequence[Record]) -> List[str]:
    """Return what changed from one start of a trial to the next, a sentence a change."""
    found: List[str] = []
    for before, after in zip(starts, starts[1:]):
        head = f"attempt {after.get('attempt')}: "
        found += [head + text for text in _between(before, after)]
    return found


def _between(before: Record, after: Record) -> List[str]:
    was, now = _facts(before), _facts(after)
    return [
        f"{name} is {now.get(name, 'not there')}, it was {was.get(name, 'not there')}"
        for name in dict.fromkeys([*was, *now])
        if was.get(name) != now.get(name)
    ]


def _facts(record: Record) -> Dict[str, str]:
    """Return what makes two starts comparable, by name, in words."""
    codes = {f"the code of {name}": text for name, text in shown_codes(record.get("code")).items()}
    versions = {str(k): str(v) for k, v in (record.get("versions") or {}).items()}
    data = {f"data {k}": str(v)[:8] for k, v in (record.get("data") or {}).items()}
    speed = {f"job.speed.{k}": str(v) for k, v in (record.get("speed") or {}).items()}
    return {**codes, **versions, "the GPU": shown_gpu(record.get("gpu")), **data, **speed}
