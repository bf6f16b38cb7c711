"""`pcan data ...`: make, check and prepare a data set."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.common.groups import CommandGroup
from pipeline.cli.common.options import (
    json_option,
    open_sweep,
    print_json,
    set_option,
    sweep_argument,
)
from pipeline.errors import InputError, NotReady
from pipeline.shared.counted import counted

if TYPE_CHECKING:
    from pipeline.data.check import DataFinding
    from pipeline.data.prepare import PackingPlan
    from pipeline.data.sources import ClipSource

FOLDER = click.Path(path_type=Path)
ann_option = click.option("--ann", type=FOLDER, help="An annotation, instead of a sweep's.")
videos_option = click.option("--videos", type=FOLDER, help="With --ann: the folder of its videos.")
train_option = click.option(
    "--train-split", metavar="NAME", help="With --ann: its training split."
)
val_option = click.option("--val-split", metavar="NAME", help="With --ann: its validation split.")


@click.group("data", cls=CommandGroup)
def command() -> None:
    """Make, check and prepare a data set."""


@command.command("demo")
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option(
    "--clips",
    type=click.IntRange(2, 10000),
    default=60,
    show_default=True,
    help="Clips of each of the 8 actions.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Another seed, other clips.",
)
def demo(folder: Path, clips: int, seed: int) -> None:
    """Make a small labelled set of drawn, moving people (video and joints).

    Half of the clips are for training, half for validation. A finished set is left alone.

    \b
    Example: pcan data demo data/demo
    """
    from pipeline.cli.common.console import Bar
    from pipeline.data.demo import make_demo

    with Bar("Drawing clips") as bar:
        made = make_demo(folder, clips, seed, bar.update)
    click.echo(f"{folder}: {'made' if made else 'already there'}")


@command.command("prepare")
@sweep_argument
@ann_option
@videos_option
@train_option
@val_option
@set_option
@click.option("--out", type=FOLDER, help="The store's folder. [default: data/prepared/NAME]")
@click.option("--profile", type=click.Choice(["fine", "exact"]), default="fine", show_default=True)
@click.option("--workers", type=click.IntRange(1), help="Processes. [default: one a core]")
@click.option("--limit", type=click.IntRange(1), help="Only this many clips of each split.")
@click.option(
    "--verify",
    type=click.IntRange(1),
    metavar="N",
    help="Read packs already there in full, not only their heads; then compare N clips a split "
    "with their videos.",
)
@click.option("--max-bad", default=10, show_default=True, help="Clips that may fail.")
@click.option("--dry-run", is_flag=True, help="Print what there is to do, and do nothing.")
def prepare_command(
    sweep: str | None,
    ann: Path | None,
    videos: Path | None,
    train_split: str | None,
    val_split: str | None,
    sets: tuple[str, ...],
    out: Path | None,
    profile: str,
    workers: int | None,
    limit: int | None,
    verify: int | None,
    max_bad: int,
    dry_run: bool,
) -> None:
    """Cut the persons out of all videos once, so that training need not decode them.

    Training clips become pictures of the region any draw can ask for (profile fine: JPEG;
    exact: lossless, 2-3 times larger); validation clips their fixed frames, lossless. An
    interrupted run goes on where it stopped. Use the store by `data: {store: prepared}`.

    \b
    Example: pcan data prepare pcan_ntu60 --set data_root=/data/ntu --workers 16
    """
    from pipeline.data.prepare import plan
    from pipeline.shared.store import default_store

    if ann is not None:
        sources = _named_sources(ann, videos, train_split, val_split)
        folder = default_store(Path(), ann.stem)
    else:
        sources, folder, _ = _sweep_sources(sweep, sets)
    todo = plan(out or folder, sources, profile, limit, in_full=verify is not None)
    _announce(todo)
    if dry_run:
        return
    _make(todo, workers, max_bad)
    if verify:
        _verify(todo, verify)


@command.command("check")
@sweep_argument
@ann_option
@videos_option
@train_option
@val_option
@set_option
@click.option("--decode", default=8, show_default=True, help="Videos of each split to decode.")
@click.option("--speed", is_flag=True, help="Measure the sample chain too (half a minute).")
@click.option("--store", type=FOLDER, help="The prepared store. [default: data/prepared/NAME]")
@json_option
def check_command(
    sweep: str | None,
    ann: Path | None,
    videos: Path | None,
    train_split: str | None,
    val_split: str | None,
    sets: tuple[str, ...],
    decode: int,
    speed: bool,
    store: Path | None,
    as_json: bool,
) -> None:
    """Check annotation, splits, labels, joints and videos before training on them.

    With --speed also: milliseconds of each stage, videos against packs, and what limits an
    epoch for the sweep's job size. Exit code 5 if something would end or falsify a training.

    \b
    Example: pcan data check pcan_ntu60 --set data_root=/data/ntu --speed
    """
    from pipeline.data.check import check
    from pipeline.data.clip_problems import ERROR
    from pipeline.data.prepare import cores
    from pipeline.shared.store import default_store, store_at

    if ann is not None:
        sources = _named_sources(ann, videos, train_split, val_split)
        folder, classes = default_store(Path(), ann.stem), None
    else:
        sources, folder, classes = _sweep_sources(sweep, sets)
    folder = store or folder
    findings = check(sources, decode, cores(), classes)
    record: dict[str, Any] = {
        "schema": 1,
        "findings": [dataclasses.asdict(one) for one in findings],
        "store": store_at(folder),
        "speed": speed_of(sweep, sets, folder) if speed and ann is None else None,
    }
    if as_json:
        print_json(record)
    else:
        print_findings(findings, record["store"], folder)
        print_speed(record["speed"])
    if any(one.severity == ERROR for one in findings):
        raise NotReady("This data is not ready to be trained on; see the errors above.")


def _named_sources(
    ann: Path, videos: Path | None, train: str | None, val: str | None
) -> list["ClipSource"]:
    from pipeline.data.sources import of_files

    if videos is None:
        raise click.UsageError("--ann needs --videos, the folder of its videos.")
    return of_files(ann, videos, train, val)


def _sweep_sources(
    sweep: str | None, sets: tuple[str, ...]
) -> tuple[list["ClipSource"], Path, int | None]:
    """Return the sources of all variants, where the store lies, and the fewest classes."""
    from pipeline.data.sources import of_config
    from pipeline.preflight.machine_overrides import parse_sets
    from pipeline.preflight.variant_data import VariantData
    from pipeline.shared.store import default_store

    opened = open_sweep(sweep)
    uses = VariantData(opened.sweep, opened.project, parse_sets(sets)).loaders()
    if not uses:
        raise InputError(
            f"The data sets of {opened.sweep.config} are of a form that is not known here (an "
            "annotation with joints, and videos); their own loaders check them."
        )
    sources = of_config([use.facts for use in uses], opened.project.root)
    store = default_store(opened.project.root, opened.sweep.name)
    classes = [use.classes for use in uses if use.classes is not None]
    return sources, store, min(classes, default=None)


def _announce(todo: "PackingPlan") -> None:
    """Print what there is to do and what it needs, before anything is written."""
    from pipeline.data.prepare import check_disk, needed_bytes

    ready = len(todo.tasks) - len(todo.missing)
    click.echo(
        f"{todo.root}: {counted(len(todo.tasks), 'clip')}, {ready} of them ready.", err=True
    )
    if not todo.missing:
        return
    need = needed_bytes(todo)
    click.echo(f"The others need about {need / 1e9:.2f} GB on the disk.", err=True)
    check_disk(todo, need)


def _make(todo: "PackingPlan", workers: int | None, max_bad: int) -> None:
    from pipeline.cli.common.console import Bar
    from pipeline.data.prepare import cores, prepare

    with Bar("Preparing clips") as bar:
        manifest = prepare(todo, workers or cores(), max_bad, bar.update)
    for name, reason in manifest["skipped"].items():
        click.echo(f"{name} stays on its video: {reason}", err=True)
    counts = manifest["counts"]
    click.echo(
        f"{todo.root}: {counts['train']} training and {counts['val']} validation packs, "
        f"{manifest['bytes'] / 1e9:.2f} GB, profile {manifest['profile']}, "
        f"digest {manifest['digest'][:12]}"
    )


def _verify(todo: "PackingPlan", count: int) -> None:
    """Print how close packs are to their videos.

    Raises:
        NotReady: one is further from its video than its profile allows.
    """
    from pipeline.data.verify import verify

    click.echo("kind   PSNR     largest difference  clip")
    compared = verify(todo, count)
    for one in compared:
        click.echo(f"{one.kind:5}  {one.psnr:4.1f} dB  {one.largest:18d}  {one.clip}")
    wrong = [one.clip for one in compared if not one.close]
    if wrong:
        raise NotReady(
            f"{len(wrong)} packs differ from their videos, first: {wrong[0]}. Have "
            f"the videos changed? Remove {todo.root} and prepare again."
        )


SAMPLES = 40


def print_findings(
    findings: Sequence["DataFinding"], store: Mapping[str, Any], folder: Path
) -> None:
    """Print each finding, and the prepared store if there is one."""
    for one in findings:
        click.echo(f"{one.severity:8}{one.about}: {one.text}")
    if store["store"] is None:
        click.echo(f"store   {store['problem']}")
        return
    counts = store["counts"]
    click.echo(
        f"store   {folder}: {counts['train']} training and {counts['val']} validation packs, "
        f"profile {store['profile']}, digest {store['digest'][:12]}"
        + (f", only {counted(store['limit'], 'clip')} of each split" if store["limit"] else "")
        + (f", {counted(len(store['skipped']), 'clip')} skipped" if store["skipped"] else "")
    )


def speed_of(sweep: str | None, sets: tuple[str, ...], store: Path) -> dict[str, Any]:
    """Measure the sample chain in a child process; return it with what limits an epoch."""
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
        click.echo(
            f"  {counted(chain['workers'], 'worker')} a process suggested. {chain['bound']}"
        )
