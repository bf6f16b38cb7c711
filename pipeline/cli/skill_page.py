"""`pcan skill DIR`: instructions for coding agents, made from the commands themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipeline.cli.common.options import json_option, print_json

#: Name of the file, as agents look for it, and the line by which it is known as ours.
FILE, MARK = "SKILL.md", "<!-- written by pcan skill; the next one replaces it -->"

_HEAD = f"""---
name: pcan
description: Carry out, watch, judge and export sweeps of action-recognition trainings with pcan.
---
{MARK}

# Working with pcan

1. `pcan sweep brief SWEEP --json` says in at most 2 KB how a sweep stands, what to run next and
   what to avoid. Begin with it, and ask it again after each step.
2. Results go to stdout, talk to stderr; `--json` gives one object with `"schema": 1`. Accuracies
   are fractions, epochs count from 1.
3. A second `pcan sweep launch` goes on where the first stopped. Stop by `pcan sweep stop`, never
   by a signal to a job.
4. Values that change a result stand in the sweep file, not in options. Do not write into `runs/`.
5. One reading is one seed: a difference counts when `pcan sweep compare --json` calls it real, a
   winner after `pcan sweep best --confirm 2`.
6. In Python: `from pipeline.results import open_sweep`.

Exit codes: 0 done as planned; 1 a bug; 2 bad input; 3 a trial failed, or nothing is eligible;
4 the storage; 5 the environment; 75 interrupted, run again to go on; 130 Ctrl-C.
"""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Write instructions for coding agents, DIR/SKILL.md, from this version's own help.

    \b
    Example:
      pcan skill .claude/skills/pcan
    """
    from pipeline.errors import InputError
    from pipeline.shared.files import write_text

    file = folder / FILE
    if file.exists() and MARK not in file.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            f"{file} exists and is not of pcan; nothing was written. Use another DIR."
        )
    folder.mkdir(parents=True, exist_ok=True)
    root = click.get_current_context().find_root().command
    write_text(file, page(root))
    file.chmod(0o644)
    if as_json:
        print_json({"schema": 1, "file": str(file)})
    else:
        click.echo(str(file))


def page(root: click.Command) -> str:
    """Return the page: rules, then every command with its usage, purpose and options."""
    parts = [_HEAD, "## Commands\n"]
    parts += [_section(words, one) for words, one in _commands(root, ("pcan",))]
    return "\n".join(parts)


def _commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        if isinstance(one, click.Group):
            yield from _commands(one, (*words, name))
        elif one is not None:
            yield " ".join((*words, name)), one


def _section(words: str, one: click.Command) -> str:
    context = click.Context(one, info_name=words)
    usage = " ".join(one.collect_usage_pieces(context)).replace("[OPTIONS] ", "")
    usage = usage.replace("[OPTIONS]", "").strip()
    lines = [f"### {words} {usage}".rstrip(), "", _purpose(one), ""]
    for param in one.params:
        if isinstance(param, click.Option) and not param.hidden:
            record = param.get_help_record(context)
            if record is not None:
                lines.append(f"- `{record[0]}` {' '.join(record[1].split())}".rstrip())
    return "\n".join([*lines, ""])


def _purpose(one: click.Command) -> str:
    """Return the help without its example's layout marks."""
    text = (one.help or "").replace("\b", "")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(part for part in paragraphs if part)
