"""What `pcan data check` prints: findings, the store, and the speed of the sample chain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.data.check import Finding

SAMPLES = 40


def print_findings(findings: Sequence["Finding"], store: Mapping[str, Any], folder: Path) -> None:
    """Print one line a finding, and what store there is."""
    for one in findings:
        click.echo(f"{one.severity:8}{one.about}: {one.text}")
    if store["store"] is None:
        click.echo(f"store   {store['problem']}")
        return
    counts = store["counts"]
    click.echo(
        f"store   {folder}: {counts['train']} training and {counts['val']} validation packs, "
        f"profile {store['profile']}, digest {store['digest'][:12]}"
        + (f", only {store['limit']} clips of each split" if store["limit"] else "")
        + (f", {len(store['skipped'])} clips skipped" if store["skipped"] else "")
    )


def speed_of(sweep: str | None, sets: tuple[str, ...], store: Path) -> dict[str, Any]:
    """Measure the chain in a child process, and say what bounds an epoch."""
    from pipeline.cli.common.options import open_sweep
    from pipeline.data.epoch_bound import LoaderLoad, sentence
    from pipeline.data.prepare import cores
    from pipeline.job.torch_tools import run_tool
    from pipeline.preflight.machine_overrides import data_root, parse_sets
    from pipeline.shared.loader_workers import suggest_workers
    from pipeline.shared.store import MANIFEST

    opened = open_sweep(sweep)
    settings, project = opened.sweep.job, opened.project
    question = {
        "config": str(project.root / opened.sweep.config),
        "data_root": data_root(opened.sweep, project, parse_sets(sets)),
        "store": str(store.resolve()) if (store / MANIFEST).exists() else None,
        "samples": SAMPLES,
    }
    answer = run_tool("data_speed", question, settings, project.root)
    for name, chain in answer["chains"].items():
        packed = name == "prepared"
        workers = suggest_workers(cores(), 1, settings.gpus, packed)
        job = LoaderLoad(settings.gpus, workers, cores(), settings.epoch_minutes)
        chain["workers"] = workers
        chain["bound"] = sentence(answer["clips"], chain["cpu_ms"], job, joints=packed)
    return answer


def print_speed(speed: Mapping[str, Any] | None) -> None:
    """Print the stages of each chain side by side."""
    if speed is None:
        return
    for name, chain in speed["chains"].items():
        rate = 1e3 / chain["cpu_ms"]
        click.echo(
            f"\n{name}: {chain['cpu_ms']:.1f} ms of CPU a sample, {rate:.0f} samples/s a worker"
        )
        for step, ms in chain["stages"].items():
            click.echo(f"  {ms:8.2f} ms  {step}")
        click.echo(f"  {chain['workers']} workers a process suggested. {chain['bound']}")
