"""The run directory: every file name in which the control side and a job meet.

`runs/<sweep>/<variant>/<number>/`. Both sides use this module, so it keeps to Python 3.8
and the standard library. How the files are read and written: `files.py`.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from pipeline.shared.files import read_json, read_lines, read_objects
from pipeline.shared.measurement import Measurement, by_epoch, parse_measurements
from pipeline.shared.predictions import Predictions
from pipeline.shared.spec import TrialSpec

#: Environment variable that marks every process of a trial with its lease's token.
MARKER = "PCAN_TRIAL"
#: Environment variable that names the file in which the ranks of one machine meet.
MEETING = "PCAN_MEETING"


class RunDir:
    """Paths inside one trial's run directory, and how its small files are read."""

    def __init__(self, root: Union[str, Path]) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"RunDir({str(self.root)!r})"

    @property
    def spec(self) -> Path:
        """What is to be run; written by the control side before the job starts."""
        return self.root / "spec.json"

    @property
    def config(self) -> Path:
        """The fully resolved MMAction2 config of this trial."""
        return self.root / "config.py"

    @property
    def measurements(self) -> Path:
        """One JSON line an epoch; written by rank 0 of the job."""
        return self.root / "measurements.jsonl"

    @property
    def verdicts(self) -> Path:
        """One JSON line a judged epoch; written by the control side."""
        return self.root / "verdicts.jsonl"

    @property
    def progress(self) -> Path:
        """Where the job is inside an epoch; replaced about twice a second by rank 0."""
        return self.root / "progress.json"

    @property
    def facts(self) -> Path:
        """What only the job knows: numbers of clips, iterations, parameters; from rank 0."""
        return self.root / "facts.json"

    @property
    def judged(self) -> Path:
        """`{"epoch": n}`: the latest epoch the control side has judged."""
        return self.root / "judged.json"

    @property
    def stop(self) -> Path:
        """The control side's request to stop after the running epoch."""
        return self.root / "stop.json"

    @property
    def owner(self) -> Path:
        """`{"token", "host"}`: whose start of the job may write here; replaced by the next."""
        return self.root / "owner.json"

    def is_held_by(self, token: str) -> bool:
        """Whether this folder, which hosts may share, still belongs to the lease of this token."""
        try:
            owner = read_json(self.owner)
        except OSError:  # the file system is away for a moment
            return True
        return owner is None or owner.get("token") == token

    @property
    def starts(self) -> Path:
        """One JSON line a start of the job: code, packages, GPU and data it ran with."""
        return self.root / "starts.jsonl"

    @property
    def code(self) -> Path:
        """Folder of the uncommitted changes that starts ran with, a diff each."""
        return self.root / "code"

    @property
    def outcome(self) -> Path:
        """How the trial's job ended."""
        return self.root / "outcome.json"

    @property
    def overruled(self) -> Path:
        """The verdicts that a person has overruled: which, who, when."""
        return self.root / "overruled.json"

    @property
    def job_log(self) -> Path:
        """Output of the launcher (torchrun)."""
        return self.root / "job.log"

    def rank_log(self, rank: int) -> Path:
        return self.root / f"rank{rank}.log"

    @property
    def logged_config(self) -> Path:
        """The configuration of an imported run, as far as its log shows it."""
        return self.root / "logged_config.json"

    @property
    def gpus(self) -> Path:
        """What the GPUs did, one JSON line an epoch; written by the control side."""
        return self.root / "gpus.jsonl"

    @property
    def chosen(self) -> Path:
        """Who chose this trial for export by hand, and when."""
        return self.root / "chosen.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of `epoch_<n>.pth`."""
        return self.root / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Folder of what validation left of each clip: `epoch_<n>.bin`, `scores_<n>.bin`."""
        return self.root / "predictions"

    def predictions_of(self, epoch: int) -> Path:
        """The predictions of one epoch; kept for the start, the best and the newest epochs."""
        return self.predictions / f"epoch_{epoch}.bin"

    def scores_of(self, epoch: int) -> Path:
        """The scores of one epoch by branch; kept for the best and the newest epoch."""
        return self.predictions / f"scores_{epoch}.bin"

    @staticmethod
    def part_of(scores: Path) -> Path:
        """The clips that a reading has got so far, beside the file of its scores."""
        return scores.with_name(scores.name + ".part")

    @property
    def refine(self) -> Path:
        """Folder of what `pcan sweep refine` has read and made of this trial."""
        return self.root / "refine"

    @property
    def labels(self) -> Path:
        """One JSON line an audited epoch: which readings fit better than the labels."""
        return self.root / "labels.jsonl"

    @property
    def wandb(self) -> Path:
        """Folder that W&B writes below."""
        return self.root / "wandb"

    def read_spec(self) -> Optional[TrialSpec]:
        """Return the trial's specification, None if there is none (or the file is torn).

        Raises:
            FormatError: a newer version wrote it, or a value in it is of another kind.
        """
        record = read_json(self.spec)
        return None if record is None else TrialSpec.from_json(record, self.spec)

    def read_measurements(self) -> List[Measurement]:
        """Return the measurements so far, ascending, each epoch once; torn lines left out."""
        return by_epoch(parse_measurements(read_lines(self.measurements)))

    def read_predictions(self, epoch: int) -> Optional[Predictions]:
        """Return the predictions of an epoch, None if they are not kept or damaged."""
        try:
            return Predictions.from_bytes(self.predictions_of(epoch).read_bytes())
        except (OSError, ValueError):
            return None

    def read_labels(self) -> List[Dict[str, Any]]:
        """Return the records of the audits of labels so far, torn lines left out."""
        return read_objects(self.labels)

    def read_starts(self) -> List[Dict[str, Any]]:
        """Return what each start of the job ran with, oldest first; empty of older runs."""
        return read_objects(self.starts)

    def read_verdicts(self) -> List[Dict[str, Any]]:
        """Return the records of the verdicts so far, as they were written, torn lines left out."""
        return read_objects(self.verdicts)


def run_directories(folder: Path) -> List[Path]:
    """Return the run directories of studies below `runs/<sweep>`, by study and number."""
    found = [f.parent for f in folder.glob("*/*/spec.json") if re.match("[0-9]+$", f.parent.name)]
    return sorted(found, key=lambda f: (f.parent.name, int(f.name)))
