"""All rules against all logs: drawn runs with a known answer, and real ones that are healthy."""

import itertools
import math
from pathlib import Path

import pytest

from drawn_runs import Drawn
from drawn_table import FAULTY, HEALTHY
from measured_runs import measured_runs
from pipeline.diagnose.log_case import make_case
from pipeline.diagnose.read_log import read_log
from pipeline.diagnose.rules.together import CONTRADICTIONS, SILENCED_BY, consistent
from pipeline.diagnose.runner import RULES, examine

ALL = [pytest.param(drawn, id=drawn.name) for drawn in (*HEALTHY, *FAULTY)]


def found(path: Path) -> set[str]:
    return {finding.id for finding in examine(make_case(read_log(path)))}


def contradictions(ids: set[str]) -> list[tuple[str, ...]]:
    pairs = itertools.combinations(sorted(ids), 2)
    return [pair for pair in pairs if frozenset(pair) in CONTRADICTIONS]


@pytest.mark.parametrize("drawn", ALL)
def test_every_form_of_a_drawn_run_has_its_findings_and_no_others(
    drawn: Drawn, tmp_path: Path
) -> None:
    forms = [found(log) for log in (*drawn.mmengine(tmp_path), *drawn.mmcv(tmp_path))]
    assert forms[1:] == forms[:-1]
    assert drawn.found <= forms[0] <= drawn.found | drawn.may


@pytest.mark.parametrize("drawn", ALL)
def test_no_two_findings_of_a_run_contradict_each_other(drawn: Drawn, tmp_path: Path) -> None:
    """With every clip drawn afresh each epoch, which brings rules to speak that should not."""
    for seed in range(4):
        rough = Drawn(**{**vars(drawn), "seed": seed, "clips": min(drawn.clips, 100)})
        assert contradictions(found(rough.mmcv(tmp_path / str(seed))[0])) == []


def test_nothing_is_found_on_the_healthy_real_logs(real_logs: list[Path]) -> None:
    assert {log.name: found(log) for log in real_logs} == {log.name: set() for log in real_logs}


def test_of_any_two_findings_that_contradict_one_stays() -> None:
    from pipeline.diagnose.log_case import note

    ids = sorted({name for name, others in SILENCED_BY.items() for name in (name, *others)})
    for pair in itertools.combinations(ids, 2):
        kept = consistent(note(name, None, "", "") for name in pair)
        assert len(kept) == (1 if frozenset(pair) in CONTRADICTIONS else 2)


def test_every_rule_that_can_be_silenced_exists() -> None:
    rules = {rule.__name__ for rule in RULES}
    assert {name for pair in CONTRADICTIONS for name in pair} <= rules


def test_the_table_reaches_every_rule_about_values() -> None:
    reached = {name for drawn in FAULTY for name in (*drawn.found, *drawn.may)}
    about_logs = {"no_validation", "no_top1", "branch_collapse"}
    assert {rule.__name__ for rule in RULES} - about_logs <= reached


@pytest.mark.parametrize("drawn", [pytest.param(drawn, id=drawn.name) for drawn in HEALTHY])
def test_a_damaged_value_brings_no_traceback(drawn: Drawn, tmp_path: Path) -> None:
    whole = drawn.top1
    hurt = Drawn(**{**vars(drawn), "top1": lambda e: math.nan if e == 3 else whole(e)})
    assert "nan_loss" in found(hurt.mmengine(tmp_path)[0]) or 3 % drawn.every


def test_nothing_is_found_on_real_fine_tunings_that_gained(real_logs: list[Path]) -> None:
    """Every tenth of 3,680 measured runs; those that ended above their start and near the best."""
    healthy, runs = {}, list(measured_runs(real_logs[0].parents[1] / "finetune_curves"))
    for name, before, curve in runs[::10]:
        values = [value for _, value in make_case(curve).values]
        end = sum(values[-3:]) / 3
        if len(values) == curve.facts.max_epochs and end >= max(before, max(values) - 0.03):
            healthy[name] = [finding.id for finding in examine(make_case(curve))]
    assert len(healthy) > 100
    assert {name: ids for name, ids in healthy.items() if ids} == {}
