"""`pcan sweep brief` and `pcan skill`: short, exact, and true to the commands there are."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.cli.skill_page import page
from pipeline.report.status.brief_record import MOST_BYTES, brief_record, size

sys.path.insert(0, str(Path(__file__).parents[1] / "surface"))
from command_tree import commands as every_command  # noqa: E402

COMMANDS = {
    path: one for path, one in every_command(cli).items() if not isinstance(one, click.Group)
}


def options(command: click.Command) -> list[str]:
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return [option.opts[0] for option in shown]


TRIAL = {
    "number": 0,
    "state": "COMPLETE",
    "phase": "done",
    "epochs": 5,
    "last_top1": 0.9,
    "eta_s": None,
    "retry": None,
    "search": None,
    "cause": None,
}
BEST = {"variant": "a", "number": 0, "top1": 0.9, "epoch": 5, "std_error": 0.01, "confirmed": None}


def status(trials: list[dict[str, Any]], best: dict[str, Any] | None = None) -> dict[str, Any]:
    studies = [
        {"variant": "a", "trials": [{**TRIAL, **t, "number": n}]} for n, t in enumerate(trials)
    ]
    return {"sweep": "lab", "studies": studies, "goal": 0.9, "best": best, "not_comparable": None}


def commands(record: dict[str, Any]) -> list[str]:
    return [step["command"] for step in record["next"]]


@pytest.mark.parametrize(
    ("trials", "state", "command"),
    [
        ([], "new", "pcan sweep plan lab"),
        ([{"phase": "running", "state": "RUNNING"}], "running", "pcan sweep status lab --json"),
        ([{"phase": "interrupted"}], "interrupted", "pcan sweep launch lab"),
        ([{"phase": "paused", "search": "ladder"}], "paused", "pcan sweep search lab"),
        ([{"state": "FAIL", "retry": "pcan x", "cause": "oom"}], "done", "pcan x"),
        ([{}], "done", "pcan sweep status lab"),
        ([{"state": "PRUNED"}, {"phase": "waiting"}], "waiting", "pcan sweep launch lab"),
    ],
)
def test_the_next_step_follows_from_the_state(trials, state: str, command: str) -> None:
    record = brief_record(status(trials), [])
    assert record["state"] == state and commands(record)[0] == command


def test_a_lost_storage_is_refilled_before_anything_is_launched() -> None:
    record = brief_record(status([]), [], in_folders=5)
    assert record["state"] == "unregistered" and commands(record) == ["pcan doctor lab --rebuild"]
    assert "5 trials" in record["next"][0]["why"] and "begin again" in record["avoid"][0]
    assert brief_record(status([{}]), [], in_folders=5)["state"] == "done"


def test_a_single_reading_is_to_be_repeated_before_it_is_exported() -> None:
    record = brief_record(status([{}], BEST), [])
    assert commands(record)[:2] == ["pcan sweep best lab --confirm 2", "pcan sweep best lab"]
    done = brief_record(status([{}], {**BEST, "confirmed": {"mean": 0.89, "seeds": 2}}), [])
    assert commands(done)[0] == "pcan sweep best lab" and done["best"]["confirmed"]["seeds"] == 2


def test_five_hundred_trials_fit_into_two_kilobytes() -> None:
    name = "a_very_long_name_of_a_variant" * 2
    running = [{"phase": "running", "state": "RUNNING"}] * 500
    pair = {"b": name, "difference": 0.01, "p_adjusted": 1e-9, "real": True}
    pairs = [{**pair, "a": f"{name}/{n}"} for n in range(300)]
    record = brief_record(status(running, BEST), pairs)
    assert size(record) <= MOST_BYTES and record["more"]["running"] > 400
    assert len(json.dumps(record).encode()) < MOST_BYTES and record["next"]


def test_the_page_for_agents_has_every_command_and_its_options(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["skill", str(tmp_path / "s")])
    text = (tmp_path / "s" / "SKILL.md").read_text()
    assert done.stdout.strip() == str(tmp_path / "s" / "SKILL.md") and text == page(cli)
    sections = {part.partition("\n")[0]: part for part in text.split("\n### ")[1:]}
    for words, command in COMMANDS.items():
        [part] = [body for head, body in sections.items() if f"{head} ".startswith(f"{words} ")]
        assert re.findall(r"^- `(--[\w-]+)", part, re.M) == options(command), words


def test_every_command_that_the_page_names_exists(tmp_path: Path) -> None:
    for line in re.findall(r"`(pcan [^`]+)`", page(cli)):
        words = line.split()[1:]
        command: click.Command | None = cli
        while isinstance(command, click.Group) and words:
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None and not isinstance(command, click.Group), line
        for option in (word for word in words if word.startswith("--")):
            assert option in [name for param in command.params for name in param.opts], line


def test_the_answer_names_the_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["skill", str(tmp_path), "--json"])
    assert json.loads(done.stdout) == {"schema": 1, "file": str(tmp_path / "SKILL.md")}


def test_a_page_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "SKILL.md").write_text("mine")
    done = CliRunner().invoke(cli, ["skill", str(tmp_path)])
    assert "is not of pcan" in str(done.exception)
    assert (tmp_path / "SKILL.md").read_text() == "mine"
