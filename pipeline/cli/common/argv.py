"""What a command was given, to be given again: in the background, or in a job of a cluster."""

from collections.abc import Collection
from pathlib import Path

import click

from pipeline.cli.common.options import echo_err


def detached(ctx: click.Context, folder: Path, sweep: str) -> None:
    """Start the same command in the background; say how to watch and to stop it."""
    from pipeline.launch.detach import detach

    pid, log = detach(folder, ["sweep", str(ctx.info_name), *given_argv(ctx)], Path.cwd())
    echo_err(f"Launched in the background: pid {pid}, log {log}.")
    echo_err(f"Watch it: pcan sweep watch {sweep}   Stop it: pcan sweep stop {sweep}")


def given_argv(ctx: click.Context, leave: Collection[str] = ("detach",)) -> list[str]:
    """Return what was typed, without some options; values from the environment stay there."""
    words: list[str] = []
    for param in ctx.command.params:
        name = str(param.name)
        value = ctx.params.get(name)
        typed = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not typed or name in leave:
            continue
        if isinstance(param, click.Argument):
            words.append(str(value))
        elif value is True:
            words.append(param.opts[0])
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{param.opts[0]}={one}" for one in values]
    return words
