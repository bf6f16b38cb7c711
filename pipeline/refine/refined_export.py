"""Export what `pcan sweep refine` has chosen, so that its own commands reproduce the number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import NoResult
from pipeline.job.resolve import data_root_of, reroot, resolve
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.refine.evaluations import checkpoint, mean_path
from pipeline.refine.recipes import ClipReading, RefinedRecipe
from pipeline.shared.files import write_text
from pipeline.shared.rundir import RunDir

#: What the exported metric reports the refined number as.
METRIC = "acc/refined_top1"


class RefinedModel:
    """Writes weights and config of a recipe; a `ModelWriter` of the export.

    Args:
        folder: the run directory of the refined trial.
    """

    metric = METRIC

    def __init__(
        self, sweep: Sweep, project: Project, folder: Path, recipe: RefinedRecipe
    ) -> None:
        self._sweep, self._project = sweep, project
        self._folder, self._recipe = folder, recipe
        self._text = ""

    def write(self, text: str, weights: Path) -> tuple[str, str]:
        """Write the weights file; return the config and the digest of the weights.

        Raises:
            NoResult: weights that `refine` made or used are gone.
        """
        first = self._recipe.readings[0]
        ratio = {"rgb": self._recipe.ratio.share, "log": self._recipe.ratio.log}
        request = {
            "configs": self._configs(text),
            "weights": [str(self._file(one)) for one in self._recipe.readings],
            "clips": first.clips,
            "flip": first.flip,
            "ratio": ratio,
            "out": str(weights),
        }
        answer = run_tool("export_refined", request, self._sweep.job, self._project.root)
        self._text = str(answer["config"])
        return self._text, str(answer["sha256"])

    def placed(self, run: RunDir) -> Path:
        """Return the config with this machine's data folder, beside the scores of the trial."""
        here = data_root_of(run.config.read_text())
        old = data_root_of(self._text)
        moved = reroot(self._text, old, here) if here and old else self._text
        file = RunDir(self._folder).refine / "config.py"
        write_text(file, moved)
        return file

    def _configs(self, text: str) -> list[str]:
        """Return the config of each model that is joined; the refined trial's own is the frame."""
        names = [one.weights[0] for one in self._recipe.readings]
        if len(names) == 1:
            return [text]
        specs = {one.trial: RunDir(one.folder).read_spec() for one in names}
        sets = {name: spec.overrides for name, spec in specs.items() if spec is not None}
        lacking = [name for name in specs if name not in sets]
        if lacking:
            raise NoResult(f"{lacking[0]} has no run directory here any more; refine again.")
        configs = resolve(self._sweep, self._project, sets).configs
        return [configs[one.trial].text for one in names]

    def _file(self, reading: ClipReading) -> Path:
        """Return the weights of a reading: a checkpoint, or the mean that `refine` kept."""
        averaged = len(reading.weights) > 1 or reading.weights[0].later
        file = (
            mean_path(self._folder, reading.weights)
            if averaged
            else checkpoint(reading.weights[0])
        )
        if not file.is_file():
            raise NoResult(
                f"{file.name} of {reading.weights[0].trial} is gone since it was refined. Again: "
                f"pcan sweep refine {self._sweep.name}"
            )
        return file


def export_note(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what best.json keeps of a refinement: all lines, the choice, the metric's name."""
    line = record["lines"][record["chosen_line"]]
    keys: Sequence[str] = (
        *("trial", "epoch", "clips", "cut_by", "tried", "lines", "chosen", "chosen_line"),
        *("selection", "better", "test", "unavailable", "left_out"),
    )
    plain = record["chosen_line"] == 0
    return {
        "metric": None if plain else METRIC,
        "reads": line["fitted"],
        **{key: record[key] for key in keys},
    }
