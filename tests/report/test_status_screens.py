"""What `pcan sweep status` shows at four widths, held by text files; colours, curves, ASCII.

`PCAN_GOLDEN=write` writes the files again after a change that was meant.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.cli.common.console import print_lines
from pipeline.cli.common.streams import prepare_streams
from pipeline.report.status.layout import curve
from pipeline.report.status.text import goal_line, next_line, status_lines, sweeps_lines

SCREENS = Path(__file__).parent / "screens"
CURVES = {
    "start/0": [0.325, 0.4667, 0.2792, 0.5708, 0.5458, 0.7292],
    "baseline/0": [0.1292],
    "lr-0.02/0": [0.5042, 0.4833, 0.6333, 0.5542, 0.625, 0.6208, 0.7375, 0.7208],
}


@pytest.fixture
def record() -> dict[str, Any]:
    """The record of a finished demo, as `status --json` printed it."""
    return json.loads((SCREENS / "status.json").read_text())


def screen(record: dict[str, Any], width: int, **kind: Any) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, markup=False, **kind)
    print_lines(console, status_lines(record, width, CURVES))
    print_lines(console, ["", goal_line(record), next_line(record)])
    return stream.getvalue()


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_the_screen_is_as_written_at_each_width(record: dict[str, Any], width: int) -> None:
    golden, now = SCREENS / f"status-{width}.txt", screen(record, width)
    if os.environ.get("PCAN_GOLDEN") == "write":
        golden.write_text(now, encoding="utf-8")
    assert now == golden.read_text(encoding="utf-8")


def test_an_imported_run_is_not_called_the_first_complete_trial(record: dict[str, Any]) -> None:
    trials = [trial for study in record["studies"] for trial in study["trials"]]
    record["best"] = None
    assert goal_line(record).endswith("No trial is complete yet.")
    for trial in trials:
        trial["imported"] = {"log": "old.csv"}
    assert goal_line(record).endswith("is complete yet; imported runs do not count.")


@pytest.mark.parametrize("width", [120, 80, 60, 40, 20])
def test_nothing_that_is_typed_is_cut(record: dict[str, Any], width: int) -> None:
    long = {**record["studies"][0], "variant": "a-variant-with-a-very-long-name-of-its-own"}
    record["studies"].append(long)
    shown = screen(record, width)
    for name in ("baseline/0", "pose-1.5/0", "a-variant-with-a-very-long-name-of-its-own/0"):
        assert name in shown
    assert "pcan sweep compare demo" in shown and "Export: pcan sweep best demo" in shown


@pytest.mark.parametrize("width", [80, 60, 40])
def test_lines_fit_unless_a_command_is_longer(record: dict[str, Any], width: int) -> None:
    lines = screen(record, width).splitlines()
    assert max(len(line) for line in lines if "pcan " not in line) <= width
    assert all(line.count("pcan ") == 1 for line in lines if len(line) > width)
    assert not any(line.lstrip().startswith("%") for line in lines)


def test_a_terminal_shows_states_in_colour_and_no_color_forbids_it(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured = screen(record, 120, force_terminal=True)
    assert "\x1b[32mlr-0.02/0" in coloured and "\x1b[33mbaseline/0" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in screen(record, 120, force_terminal=True)
    assert "\x1b" not in screen(record, 120)


def test_a_curve_is_on_the_scale_of_its_table() -> None:
    assert curve([0.0, 0.5, 1.0], 0.0, 1.0) == "▁▅█"
    assert curve([0.5], 0.5, 0.5) == "▁"
    assert curve([], 0.0, 1.0) == "" and curve([float("nan"), None], 0.0, 1.0) == ""
    assert len(curve([i / 50 for i in range(50)], 0.0, 1.0)) == 12


def test_letters_that_an_encoding_lacks_have_others(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "ascii"))
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    prepare_streams()
    import sys

    sys.stdout.write("73.75 % ± 2.84 ▁▅█ 方案")
    sys.stderr.write("± ▁█")
    sys.stdout.flush()
    sys.stderr.flush()
    assert raw.getvalue() == rb"73.75 % +/- 2.84 _~# \u65b9\u6848"
    assert sys.stderr.buffer.getvalue() == b"\xb1 _#"  # type: ignore[attr-defined]


def test_a_sweep_that_does_not_fit_on_a_line_gets_several() -> None:
    row = {"sweep": "ntu", "file": "sweeps/ntu.yaml", "problem": None, "trials": {"PRUNED": 2}}
    assert sweeps_lines([row], 80) == ["ntu  sweeps/ntu.yaml  2 pruned"]
    assert sweeps_lines([row], 20) == ["ntu", "  sweeps/ntu.yaml", "  2 pruned"]


def test_what_goes_on_is_the_command_that_was_used(record: dict[str, Any]) -> None:
    record["best"], record["command"] = None, "pcan sweep launch demo --device cpu"
    record["studies"][1]["trials"][0]["phase"] = "interrupted"
    assert next_line(record) == "Go on: pcan sweep launch demo --device cpu"
    record["command"] = None
    assert next_line(record) == "Go on: pcan sweep launch demo"
