"""`pcan checkpoint`: what a checkpoint file holds, and how it fits a config's model."""

import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli.common.groups import CommandGroup
from pipeline.cli.common.options import open_sweep
from pipeline.errors import InputError, printable
from pipeline.shared.counted import counted
from pipeline.shared.foreign_files import checkpoint_problem

#: Kind of a file that the public PCAN implementation made (`pipeline/train/weights.py`).
PUBLIC = "pcan-public"


@click.group(cls=CommandGroup)
def command() -> None:
    """Inspect checkpoint files."""


@command.command()
@click.argument("file")
@click.option("--config", help="Compare with the model of this config.")
@click.option(
    "--sweep",
    metavar="SWEEP",
    help="Compare with this sweep's config, by its python and code_root.",
)
@click.option("--min-matched", default=0.95, show_default=True, help="Share a warm start needs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(
    file: str, config: str | None, sweep: str | None, min_matched: float, as_json: bool
) -> None:
    """Show what FILE holds and what of it a warm start would load.

    The file is never executed: a checkpoint that needs more than plain data is refused.

    With --sweep the model is built as the sweep's jobs build it: by the interpreter of job.python
    and with the checkout of job.code_root first on its path.

    Example: pcan checkpoint inspect epoch_26.pth --sweep pcan_ntu60
    """
    if not file:
        raise InputError("The name of the checkpoint is empty. Give a file.")
    problem = checkpoint_problem(Path(file))  # before torch is imported for it
    if problem is not None:
        raise InputError(problem)
    from pipeline.job.torch_tools import code_root, run_tool
    from pipeline.plan.sweep import JobSettings

    question: dict[str, Any] = {"checkpoint": file, "config": config, "min_matched": min_matched}
    job, root = JobSettings(), Path.cwd()
    if sweep is not None:
        opened = open_sweep(sweep)
        job, root = opened.sweep.job, opened.project.root
        checkout = None if job.code_root is None else str(code_root(job.code_root, root))
        question.update(config=config or str(root / opened.sweep.config), code_root=checkout)
    # In the working directory, so that the files are called as the user called them.
    answer = run_tool("inspect_checkpoint", question, job, root, cwd=Path.cwd())
    text = printable("\n".join(lines(answer)))
    click.echo(json.dumps(answer, indent=1) if as_json else text)


def lines(answer: dict[str, Any]) -> list[str]:
    file = answer["file"]
    epoch = "" if file["epoch"] is None else f", epoch {file['epoch']}"
    shown = [
        f"{file['path']}: {file['description']}{epoch}",
        f"  {counted(file['tensors'], 'tensor')}, {file['numbers']:,} numbers, "
        f"{_mib(file['bytes'])}",
        f"  {_count(file, 'classes')}, {_count(file, 'coarse_classes')}, "
        f"{_count(file, 'joints')}, {len(file['prototypes'])} sets of prototypes",
    ]
    if file["kind"] == PUBLIC:
        shown.append(
            "  The public head can change labels while it trains. Whether these weights show it: "
            'pcan doctor SWEEP (docs/model.md, "Labels that the loss changes")'
        )
    if not file["finite"]:
        shown.append("  It holds NaN or infinite numbers.")
    if answer["config"]:
        shown += _config_lines(answer["config"]) + _fit_lines(answer["fit"])
    return shown


def _config_lines(config: dict[str, Any]) -> list[str]:
    shown = [
        f"{config['path']}: {config['backbone']} and {config['head']}, "
        f"{_count(config, 'classes')}, {_count(config, 'joints')}"
    ]
    return shown + [f"  Problem: {problem}" for problem in config["problems"]]


def _fit_lines(fit: dict[str, Any]) -> list[str]:
    shown = [
        f"  {100 * fit['matched_share']:.1f} % of the numbers such a file should have match: "
        f"{counted(fit['matched'], 'tensor')}, {fit['renamed']} of them under another name"
    ]
    for key, words in (
        ("missing", "missing from the file"),
        ("fresh", "new in this model"),
        ("unexpected", "unknown to this model"),
    ):
        if fit[key]:
            more = ", ..." if len(fit[key]) > 3 else ""
            shown.append(f"  {len(fit[key])} {words}: {', '.join(fit[key][:3])}{more}")
    for entry in fit["mismatched"]:
        shown.append(f"  {entry['name']}: {entry['file']} in the file, {entry['model']} here")
    verdict = "would load it" if fit["would_load"] else "would refuse it"
    return [*shown, f"  A warm start {verdict} (needs {100 * fit['min_matched']:.0f} %)."]


def _count(facts: dict[str, Any], key: str) -> str:
    value = facts[key]
    return f"{'no' if value is None else value} {key.replace('_', ' ')}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
