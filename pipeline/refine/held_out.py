"""`refine --test`: the chosen line on the test split, once.

A number that is read again and again is chosen by it, so each reading is on record and a second
one has to be asked for.
"""

from typing import Any

from pipeline.errors import InputError, NoResult
from pipeline.launch.control_files import audit_stamp
from pipeline.refine.crosswise import against
from pipeline.refine.evaluations import Evaluations
from pipeline.refine.lines import Mask
from pipeline.refine.recipes import RefinedRecipe, recipe_of
from pipeline.refine.refinement import (
    TABLE,
    TESTS,
    RefineRequest,
    chosen_recipe,
    compared,
    opened,
    tests_of,
)
from pipeline.report.stats.kept_scores import mean_scores
from pipeline.shared.files import write_json
from pipeline.shared.fusion import fuse, guesses
from pipeline.shared.rundir import RunDir


def refuse_second(run: RunDir, again: bool) -> None:
    """Raise InputError if the test split was read before, unless it is to be read again."""
    before = tests_of(run)
    if before and not again:
        last = before[-1]
        raise InputError(
            f"The test split was read before ({last['time']} by {last['by']} on {last['host']}): "
            "what is read twice is chosen by it. To read it all the same, on record: --again"
        )


def read_test(request: RefineRequest, record: dict[str, Any]) -> dict[str, Any]:
    """Read the chosen line and the plain winner on the test split; return the table with it.

    Raises:
        InputError: the test split has the clips of the validation.
        NoResult: it cannot be read.
    """
    run = RunDir(request.project.root / (request.winner.run_dir or ""))
    recipe = chosen_recipe(record, request.project, request.rows)
    plain = recipe_of(record["lines"][0]["recipe"], {request.winner.name: run.root})
    with opened(request, run.root, "test") as evaluations:
        facts = evaluations.facts(run.root, request.winner.best_epoch or 0, {})
        if not facts["test_differs"]:
            raise InputError(
                "The test loader of this config reads the validation clips, so it can say nothing "
                "new. Give the config a test split of its own."
            )
        refused = evaluations.prepare([*plain.readings, *recipe.readings])
        if refused:
            raise NoResult(f"The test split cannot be read: {next(iter(refused.values()))}.")
        found = [_right(evaluations, one) for one in (plain, recipe)]
    before = tests_of(run)
    result = {**_test_record(*found), "reading": len(before) + 1, **audit_stamp()}
    write_json(run.refine / TESTS, {"schema": 1, "readings": [*before, result]})
    record = {**record, "test": result}
    write_json(run.refine / TABLE, record)
    return record


def _right(evaluations: Evaluations, recipe: RefinedRecipe) -> Mask:
    """Return which clips a recipe gets right."""
    found = [evaluations.scores(one) for one in recipe.readings]
    joined = fuse(mean_scores(found), recipe.ratio.share, recipe.ratio.log)
    right: Mask = guesses(joined) == found[0].labels
    return right


def _test_record(plain: Mask, refined: Mask) -> dict[str, Any]:
    reading = compared(float(refined.mean()), against(refined, plain), len(plain))
    return {"split": "test", "clips": len(plain), **reading, "plain_top1": float(plain.mean())}
