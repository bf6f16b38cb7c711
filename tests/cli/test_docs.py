"""Every command stands in docs/commands.md with its options, and nothing else does."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text()


def commands(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(commands(cli, ("pcan",)))
#: The cells of each row about a command: its words, what it does, its options.
ROWS = {
    re.sub(r" [A-Z].*", "", cells[0].strip(" `")): cells
    for line in PAGE.splitlines()
    if (cells := line.split("|")[1:-1]) and cells[0].startswith(" `pcan")
}


def options(command: click.Command) -> list[str]:
    """Return the long names of the options that `-h` shows."""
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return [option.opts[0] for option in shown]


def test_the_page_has_every_command_and_no_other() -> None:
    assert sorted(ROWS) == sorted(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_row_has_every_option_and_no_other(words: str) -> None:
    named = re.findall(r"`(--[a-z-]+)", ROWS[words][2])
    assert named == options(COMMANDS[words])
