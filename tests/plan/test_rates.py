"""Learning rates that no training could use are refused before anything is registered."""

from pathlib import Path

import pytest

from pipeline.errors import SweepFileError
from pipeline.plan.config_checks import LR, check_against
from pipeline.plan.read import read_sweep

TEXT = f"""\
name: tiny
config: c.py
objective: {{metric: acc/top1}}
variants:
  baseline:
    set: {{train_cfg.max_epochs: 4, {LR}: 0.01}}
  slower: {{like: baseline}}
ladder: {{start: baseline}}
"""


def refused(tmp_path: Path, lr: object, schedulers: object = None, text: str = TEXT) -> str:
    """Return what is said of variants that resolve to these facts, "" if nothing is."""
    (tmp_path / "s.yaml").write_text(text)
    sweep = read_sweep(tmp_path / "s.yaml", tmp_path)
    facts = {"max_epochs": 4, "lr": lr, "param_scheduler": schedulers}
    try:
        check_against(sweep, {"slower": facts})
    except SweepFileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("lr", [0, -0.1, float("nan"), float("inf"), "auto", True])
def test_a_rate_that_is_no_positive_number_is_reported_with_its_line(tmp_path: Path, lr) -> None:
    assert refused(tmp_path, lr).startswith(f"s.yaml:6: slower trains with {LR} = {lr!r}.")


def cosine(end: object) -> dict[str, object]:
    return {"type": "CosineAnnealingLR", "eta_min": end}


@pytest.mark.parametrize(
    ("schedulers", "reported"),
    [
        ([cosine(1e-5)], ""),
        ([cosine(0.01)], ""),
        (
            [{"type": "LinearLR"}, cosine(0.02)],
            "param_scheduler.1.eta_min = 0.02, above its start",
        ),
        (cosine(0.02), "param_scheduler.eta_min = 0.02, above its start"),
        ([cosine("low")], "param_scheduler.0.eta_min is 'low'; it must be a number"),
        ([cosine(-1e-5)], "it must be a number from 0 up"),
        (None, ""),
    ],
)
def test_a_schedule_may_not_end_above_its_start(tmp_path: Path, schedulers, reported) -> None:
    found = refused(tmp_path, 0.01, schedulers)
    assert reported in found and bool(reported) == bool(found)


def test_a_search_may_not_reach_zero(tmp_path: Path) -> None:
    space = f"slower: {{like: baseline, space: {{{LR}: {{low: 0, high: 0.1}}}}}}"
    text = TEXT.replace("slower: {like: baseline}", space)
    assert f"s.yaml:7: slower searches {LR} from 0." in refused(tmp_path, 0.01, text=text)


def test_a_config_that_validates_after_no_epoch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT)
    sweep = read_sweep(tmp_path / "s.yaml", tmp_path)
    facts = {"max_epochs": 4, "lr": 0.1, "val_begin": 5, "val_interval": 1, "val_epochs": []}
    with pytest.raises(
        SweepFileError, match="after none of its 4 epochs .*val_begin is 5, val_int"
    ):
        check_against(sweep, {"slower": facts})
