"""A rule about a trial's kept predictions: do they fit its labels, or another reading of them?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.diagnose.log_case import Finding, LogCase, error
from pipeline.diagnose.runner import Rule
from pipeline.shared.rundir import RunDir

_REMEDY = (
    "Look at labels and loss before anything else. Does the loss train the labels that the loader "
    "gives? pcan doctor tries it on the head itself. Were the starting weights trained by a head "
    "that changes labels? docs/model.md says what a fine-tune then shows at first. Is the "
    "validation list numbered like the training list, from 0 (pcan data check)?"
)


def labels_of(folder: Path) -> Rule:
    """Return the rule for one run directory: each audited epoch, and those whose files are kept.

    A branch is reported once, by its newest epoch, with the first in which it was found.
    """

    def label_mismatch(_case: LogCase) -> Iterator[Finding]:
        audits = _audits(RunDir(folder))
        newest: dict[str, tuple[int, str]] = {}
        first: dict[str, int] = {}
        for epoch, findings in sorted(audits.items()):
            for one in findings:
                first.setdefault(one["branch"], epoch)
                newest[one["branch"]] = epoch, one["sentence"]
        for branch, (epoch, sentence) in newest.items():
            since = f" (found since epoch {first[branch]})" if first[branch] < epoch else ""
            yield error("label_mismatch", epoch, f"epoch {epoch}: {sentence}{since}", _REMEDY)

    return label_mismatch


def _audits(run: RunDir) -> dict[int, list[dict[str, Any]]]:
    """Return the findings by audited epoch, empty lists included."""
    found = {
        int(record["epoch"]): [f for f in record.get("findings") or () if "sentence" in f]
        for record in run.read_labels()
        if isinstance(record.get("epoch"), int)
    }
    for file in run.predictions.glob("epoch_*.bin"):
        number = file.stem.removeprefix("epoch_")
        kept = run.read_predictions(int(number)) if number.isdigit() else None
        if kept is not None:
            from pipeline.plan.label_audit import audit

            found[int(number)] = [one.record() for one in audit(kept)]
    return found
