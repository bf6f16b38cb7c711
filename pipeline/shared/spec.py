"""`spec.json`: what a trial is to run, written by the control side before its job starts.

Both sides use this module, so it keeps to Python 3.8 and the standard library. Paths: `rundir.py`.
"""

import dataclasses
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from pipeline.shared.files import FormatError, check_schema

SCHEMA = 1
#: What a trial is trained in whose record says nothing else.
USUAL_PRECISION = "fp32"


@dataclasses.dataclass(frozen=True)
class TrialSpec:
    """One trial as its run directory records it. What a file lacks is None or empty.

    Args:
        number: of the trial in its study; a text for a run without a study.
        study: name of the Optuna study.
        plan: letter or name of the variant in the written plan.
        trial: id that differs from that of a trial of the same name in another storage.
        continues: name of the stopped trial whose epochs this one goes on from.
        confirms: name of the finished trial that this one repeats on another seed.
        search: rule of the search that drew the trial.
        attempt: which start of the job this is, from 1; 0 for an imported run.
        values: what was drawn from the variant's space, by config path.
        overrides: what the trial changes on the base config, by config path.
        metric: name of the objective among the validation metrics.
        branches: "rgb" and "pose" to the names of their metrics.
        config_hash: sha256 of the config without facts of the machine; checkpoints carry it.
        nproc: processes (ranks) of the job.
        device: "cuda" or "cpu".
        warm_start: `checkpoint` with its conditions.
        stage: of a later stage, whose weights it began with: `of`, the variant; `trial`, `uid`,
            `epoch` and `top1` of its best complete trial; `sha256` of the checkpoint.
        resume: checkpoint to go on from, relative to the run directory; None starts with epoch 1.
        judge_wait_s: seconds that rank 0 waits after an epoch for the control side's verdict.
        gates, bands: the plan's, as plain records.
        wandb: `id` of the run and where it goes.
        versions: of the packages that matter in the job's own interpreter, by name.
        created: ISO 8601 with offset.
        data: which store the samples come from, with its profile and digest; `sha256` of the
            annotation files and `splits` of them, by loader.
        read: what the search's rule ranks trials by, "averaged" or "best"; None is "best".
        averaged_checks: epochs after which the job reads the averaged weights.
        loading: `slots`, jobs that share the machine, and `named`, config paths set by the user.
        code: of this start, `project` and `code_root`: commit, branch, whether dirty, the diff.
        gpu: `names` and `driver` of the job's GPUs; None on the CPU.
        speed: what of the plan's `job.speed` is on.
        precision: that the config trains in, such as "bf16"; None is "fp32".
        imported: the log that an imported run is known from.
        others: keys of other versions, kept as they are.
    """

    sweep: str = ""
    variant: str = ""
    number: Union[int, str] = 0
    study: str = ""
    plan: Optional[str] = None
    trial: Optional[str] = None
    continues: Optional[str] = None
    confirms: Optional[str] = None
    search: Optional[str] = None
    attempt: int = 1
    values: Dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: Dict[str, Any] = dataclasses.field(default_factory=dict)
    epochs: Optional[int] = None
    metric: Optional[str] = None
    branches: Dict[str, str] = dataclasses.field(default_factory=dict)
    goal: Optional[float] = None
    best_known: Optional[float] = None
    seed: Optional[int] = None
    config_hash: Optional[str] = None
    recipe_hash: Optional[str] = None
    nproc: Optional[int] = None
    device: Optional[str] = None
    warm_start: Optional[Dict[str, Any]] = None
    stage: Optional[Dict[str, Any]] = None
    resume: Optional[str] = None
    judge_wait_s: float = 0
    gates: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    bands: List[Dict[str, Any]] = dataclasses.field(default_factory=list)
    wandb: Dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: Dict[str, str] = dataclasses.field(default_factory=dict)
    created: Optional[str] = None
    data: Optional[Dict[str, Any]] = None
    loading: Optional[Dict[str, Any]] = None
    code: Optional[Dict[str, Any]] = None
    gpu: Optional[Dict[str, Any]] = None
    speed: Optional[Dict[str, Any]] = None
    precision: Optional[str] = None
    read: Optional[str] = None
    averaged_checks: List[int] = dataclasses.field(default_factory=list)
    imported: Optional[Dict[str, Any]] = None
    others: Dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """The trial's name, VARIANT/NUMBER."""
        return f"{self.variant}/{self.number}"

    @property
    def checks_start(self) -> bool:
        """Whether the starting weights are validated before training (epoch 0)."""
        start = self.warm_start or {}
        checked = start.get("expect") is not None and start.get("on_mismatch") != "skip"
        return checked and self.resume is None

    @property
    def resumed_epoch(self) -> int:
        """The epoch of the checkpoint that the job goes on from, 0 without one."""
        digits = re.search(r"epoch_(\d+)\.pth$", self.resume or "")
        return int(digits.group(1)) if digits else 0

    @property
    def reads_packs(self) -> bool:
        """Whether the job reads a prepared store instead of the videos."""
        return (self.data or {}).get("store") == "prepared"

    def to_json(self) -> Dict[str, Any]:
        """Return the object that `spec.json` holds.

        An imported run has no job, so its record leaves out what only a job needs.
        """
        record: Dict[str, Any] = {"schema": SCHEMA}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "others" or (not value and field.name in self._omitted):
                continue
            record[field.name] = value
        return {**record, **self.others}

    @property
    def _omitted(self) -> Tuple[str, ...]:
        return _ONLY_FOR_SOME if self.imported is None else _ONLY_FOR_JOBS

    @classmethod
    def from_json(cls, record: Mapping[str, Any], source: object = "spec.json") -> "TrialSpec":
        """Return the specification that a JSON object describes.

        Args:
            source: where the object was read; errors name it.

        Raises:
            FormatError: a newer version wrote it, or a value is of another kind.
        """
        check_schema(record, SCHEMA, source)
        names = {field.name for field in dataclasses.fields(cls)} - {"others"}
        known = {key: value for key, value in record.items() if key in names and value is not None}
        for key, value in known.items():
            kinds, words = _KINDS[key]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise FormatError(f"{source} cannot be used: {key} is {value!r}, not {words}.")
        others = {k: v for k, v in record.items() if k not in names and k != "schema"}
        return cls(**known, others=others)


_TEXT, _WHOLE, _NUMBER = ((str,), "a text"), ((int,), "a whole number"), ((int, float), "a number")
_TABLE, _LIST = ((dict,), "an object"), ((list,), "a list")
_KINDS: Dict[str, Tuple[Tuple[type, ...], str]] = {
    "number": ((int, str), "a number or a name"),
    **dict.fromkeys(("sweep", "variant", "study", "plan", "trial"), _TEXT),
    **dict.fromkeys(("continues", "confirms", "search", "read", "metric", "device"), _TEXT),
    **dict.fromkeys(("config_hash", "recipe_hash", "resume", "created", "precision"), _TEXT),
    **dict.fromkeys(("attempt", "epochs", "seed", "nproc"), _WHOLE),
    **dict.fromkeys(("goal", "best_known", "judge_wait_s"), _NUMBER),
    **dict.fromkeys(("values", "overrides", "branches", "warm_start", "stage", "wandb"), _TABLE),
    **dict.fromkeys(("versions", "code", "gpu", "data", "loading", "imported"), _TABLE),
    "speed": _TABLE,
    **dict.fromkeys(("gates", "bands", "averaged_checks"), _LIST),
}
_ONLY_FOR_SOME = ("imported", "read", "averaged_checks", "stage", "speed", "precision")
_ONLY_FOR_JOBS = (
    *("continues", "confirms", "search", "read", "averaged_checks"),
    *("branches", "seed", "config_hash", "nproc", "device"),
    *("warm_start", "stage", "resume", "judge_wait_s", "gates", "bands", "versions", "created"),
    *("code", "gpu", "data", "loading", "speed", "precision"),
)
