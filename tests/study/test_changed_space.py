"""A search goes on when its space has changed in a way that Optuna refuses by itself."""

from pathlib import Path

import pytest

from pipeline.plan.read import read_sweep
from pipeline.shared.measurement import Measurement
from pipeline.study.claim import ClaimRequest, claim
from pipeline.study.db.storage import Storage, open_storage
from pipeline.study.register import recipe_of, register
from pipeline.study.sampler import SamplerOptions
from pipeline.study.trial_rows import read_board

TEXT = """\
name: s
config: c.py
objective: {metric: acc/top1}
variants:
  base:
    set: {lr: 1e-3, width: 16}
    space:
      lr: %s
      width: %s
ladder: {start: base}
"""
OLD = "{low: 1e-4, high: 1e-2, log: true}", "{choices: [8, 16]}"


@pytest.fixture
def storage(tmp_path: Path):
    storage = open_storage(None, tmp_path / "runs")
    yield storage
    storage.close()


def search(folder: Path, storage: Storage, trials: int, lr: str, width: str) -> list[dict]:
    """Complete trials of a search until it has so many; return the values that Optuna stores."""
    (folder / "s.yaml").write_text(TEXT % (lr, width))
    sweep = read_sweep(folder / "s.yaml", folder)
    register(sweep, storage, {"base": recipe_of(sweep.variants["base"], "h")})
    options = SamplerOptions(seed=0)
    request = ClaimRequest(variant="base", trials=trials, recipe_hash="h", search=options)
    while (lease := claim(sweep, storage, [request])) is not None:
        history = [Measurement(epoch=1, top1=0.5)]
        lease.tell("COMPLETE", history, cause=None, reason="done", verdicts=[], seconds=1)
    study = storage.rdb.get_study_id_from_name("s/base")
    return [t.params for t in storage.rdb.get_all_trials(study) if t.state.name == "COMPLETE"]


@pytest.mark.parametrize(
    ("lr", "width", "kept"),
    [
        (OLD[0], "{choices: [8, 16, 32]}", {"lr", "width"}),
        (OLD[0], "{choices: [16, 8]}", {"lr", "width"}),
        (OLD[0], "{low: 8, high: 32, step: 8}", {"lr", "width"}),
        (OLD[0], "{low: 12, high: 64}", {"lr", "width"}),
        (OLD[0], "{choices: [wide]}", {"lr"}),
        ("{low: 0.0001, high: 1}", OLD[1], {"lr", "width"}),
        ("{choices: [0.5, 0.25]}", OLD[1], {"width"}),
    ],
)
def test_a_search_goes_on_and_knows_what_the_new_space_can_hold(
    tmp_path: Path, storage: Storage, lr: str, width: str, kept: set[str]
) -> None:
    first = search(tmp_path, storage, 3, *OLD)
    after = search(tmp_path, storage, 5, lr, width)
    assert after[:3] == [{k: v for k, v in one.items() if k in kept} for one in first]
    assert len(after) == 5 and all(set(one) == {"lr", "width"} for one in after[3:])
    sweep = read_sweep(tmp_path / "s.yaml", tmp_path)
    rows = [row for row in read_board(sweep.name, storage) if row.recipe_hash is None]
    assert [row.params for row in rows[:3]] == first
