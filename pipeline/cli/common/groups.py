"""Groups of commands: imported when they are used, and helpful to someone who mistypes one."""

import contextlib
import difflib
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.errors import PcanError

#: What other tools call a command, and people therefore type here.
_ELSEWHERE = {
    "cancel": "stop",
    "delete": "clean",
    "export": "best",
    "kill": "stop",
    "logs": "log",
    "ls": "list",
    "pause": "stop",
    "ps": "status",
    "resume": "launch",
    "retry": "launch",
    "rm": "clean",
    "run": "launch",
    "show": "status",
    "start": "launch",
}


class CommandGroup(click.Group):
    """A group that answers an unknown name with the command that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = self._meant(ctx, args[0])
            hint = f' Did you mean "{meant}"?' if meant else ""
            raise click.UsageError(f"{error.message}{hint}", ctx) from None

    def _meant(self, ctx: click.Context, word: str) -> str | None:
        """Return a name of this group, else a whole command of another; None if none is near."""
        own, places = self.list_commands(ctx), _places(ctx.find_root())
        name = _ELSEWHERE.get(word, word)
        if name in own or name in places:
            return name if name in own else places[name]
        close = difflib.get_close_matches(word, own, 1)
        if close:
            return close[0]
        far = difflib.get_close_matches(word, places, 1, 0.8)
        return places[far[0]] if far else None


def _places(root: click.Context) -> dict[str, str]:
    """Return how each command is typed, by its own name; of one name, the shortest way."""
    found = _walk(root, root.command, "pcan")
    return dict(sorted(found, key=lambda one: -one[1].count(" ")))


def _walk(ctx: click.Context, command: click.Command, typed: str) -> Iterator[tuple[str, str]]:
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(ctx):
        yield name, f"{typed} {name}"
        inner = command.get_command(ctx, name)
        if inner is not None:
            yield from _walk(ctx, inner, f"{typed} {name}")


class LazyGroup(CommandGroup):
    """A group whose commands are imported when they are used.

    Args:
        lazy: by name, where a command is ("module:attribute") and its line in the list.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        with _no_plugins_of_pydantic():
            command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["bare"] = not args
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what to type next to someone who typed nothing but the group's name."""
        super().format_epilog(ctx, formatter)
        if ctx.meta.get("bare"):
            with formatter.section("Here"):
                for line in _next_steps().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            if name in self._lazy:
                rows.append((name, self._lazy[name][1]))
            else:
                command = super().get_command(ctx, name)
                rows.append((name, command.get_short_help_str(limit=80) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@contextlib.contextmanager
def _no_plugins_of_pydantic() -> Iterator[None]:
    """Keep pydantic from looking through all installed packages for plugins.

    That is a tenth of the time of `sweep status`. The variable does not stay, so that a job and
    what it imports find the environment that the user has set.
    """
    name = "PYDANTIC_DISABLE_PLUGINS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "__all__"
    try:
        yield
    finally:
        del os.environ[name]


def _next_steps() -> str:
    from pipeline.plan.first_steps import next_steps
    from pipeline.plan.project import find_project

    try:
        return next_steps(find_project().root, marked=True)
    except PcanError:
        return next_steps(Path.cwd(), marked=False)
