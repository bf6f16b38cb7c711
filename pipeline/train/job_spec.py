"""What the job reads of `spec.json`."""

import dataclasses
from typing import Any, Dict, Optional

from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.train.outcome import JobFailure


@dataclasses.dataclass(frozen=True)
class Spec:
    """The part of a trial's specification that the job acts on.

    Args:
        metric: name of the objective among the validation metrics.
        branches: measurement field ("rgb", "pose") to metric name.
        config_hash: sha256 of the text of `config.py`; checkpoints carry it.
        resume: checkpoint to go on from, relative to the run directory; None starts anew.
        judge_wait_s: how long rank 0 waits after an epoch for the control side's verdict.
        raw: the whole object as it was written.
    """

    metric: str
    branches: Dict[str, str]
    attempt: int
    seed: Optional[int]
    config_hash: Optional[str]
    nproc: int
    device: str
    warm_start: Optional[Dict[str, Any]]
    resume: Optional[str]
    judge_wait_s: float
    raw: Dict[str, Any]

    @property
    def checks_start(self) -> bool:
        """Whether the starting weights are validated before training (epoch 0)."""
        start = self.warm_start or {}
        wanted = start.get("expect") is not None and start.get("on_mismatch") != "skip"
        return wanted and self.resume is None


def read_spec(rundir: RunDir) -> Spec:
    """Read `spec.json`; raise JobFailure if it cannot be used."""
    raw = read_json(rundir.spec)
    if raw is None:
        raise JobFailure("bad_config", f"{rundir.spec} is missing or holds no JSON object.")
    try:
        return Spec(
            metric=raw["metric"],
            branches=dict(raw.get("branches") or {}),
            attempt=int(raw.get("attempt", 1)),
            seed=raw.get("seed"),
            config_hash=raw.get("config_hash"),
            nproc=int(raw.get("nproc", 1)),
            device=raw.get("device", "cuda"),
            warm_start=raw.get("warm_start"),
            resume=raw.get("resume"),
            judge_wait_s=float(raw.get("judge_wait_s", 0)),
            raw=raw,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JobFailure("bad_config", f"{rundir.spec} cannot be used: {error!r}.") from error
