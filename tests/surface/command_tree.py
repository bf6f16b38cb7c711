"""Every command as Click knows it, from the console script that pyproject names."""

import importlib
import tomllib
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]


def root_command() -> click.Group:
    """Return the Click group behind the console script that pyproject names."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"pcan": "pipeline.cli.main:main"}
    module = importlib.import_module("pipeline.cli.main")
    groups = [one for one in vars(module).values() if isinstance(one, click.Group)]
    children = {id(child) for group in groups for child in children_of(group).values()}
    [root] = [group for group in groups if id(group) not in children]
    return root


def children_of(group: click.Group) -> dict[str, click.Command]:
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def commands(group: click.Group, path: str = "pcan") -> dict[str, click.Command]:
    """Return every command and group by what is typed."""
    found: dict[str, click.Command] = {path: group}
    for name, command in children_of(group).items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{path} {name}")
        else:
            found[f"{path} {name}"] = command
    return found
