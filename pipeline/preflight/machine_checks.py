"""Checks of the machine and of the environment that jobs run in."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pipeline
from pipeline.job.gpus import choose, list_gpus
from pipeline.job.slots import gpu_slots
from pipeline.job.torch_tools import code_root, run_tool
from pipeline.plan.sweep import JobSettings
from pipeline.preflight.finding import CheckContext, Finding, error, note, warning
from pipeline.preflight.launch_checks import (
    disk_need,
    free_bytes,
    loopback_problem,
    unwritable_reason,
)
from pipeline.study.db.storage import open_storage

#: Older `weights_only` loading can be made to run code.
SAFE_TORCH = (2, 10)


def check_environment(patient: CheckContext) -> Iterator[Finding]:
    """Can this environment train: is everything installed, does a checkpoint survive a round?"""
    job = patient.sweep.job if patient.sweep is not None else JobSettings()
    answer = run_tool("selftest", {}, job, patient.project.root)
    for name, problem in answer["problems"].items():
        yield error("environment", f"{name}: {problem}")
    version = str(answer["versions"].get("torch", "0.0"))
    parts = tuple(int(p) for p in version.split("+")[0].split(".")[:2] if p.isdigit())
    if parts < SAFE_TORCH:
        yield warning(
            "environment",
            f"torch {version} has known holes in its safe loading; train only from weights you "
            "trust, or use torch 2.10 or newer.",
        )
    versions = ", ".join(f"{name} {v}" for name, v in answer["versions"].items())
    yield note("environment", versions)
    for folder in _other_packages(patient.project.root, job):
        yield note(
            "environment",
            f'{folder} is not imported in jobs, where "pipeline" is the package of pcan. '
            "If configs need modules of it, rename that folder.",
        )


def _other_packages(root: Path, job: JobSettings) -> list[Path]:
    """Return the user's packages with the name of ours where jobs import from."""
    folders = [root] if job.code_root is None else [root, code_root(job.code_root, root)]
    packages = [folder / "pipeline" for folder in folders]
    ours = Path(pipeline.__file__).resolve().parent
    return [p for p in packages if (p / "__init__.py").is_file() and p.resolve() != ours]


def check_folder(patient: CheckContext) -> Iterator[Finding]:
    """Can runs be written, and are they private?"""
    runs = patient.project.runs
    trouble = unwritable_reason(runs)
    if trouble is not None:
        yield error("folder", trouble)
    elif runs.is_dir() and runs.stat().st_mode & 0o077:
        yield warning(
            "folder", f"{runs} can be read by others. Make it private: chmod -R go= {runs}"
        )


def check_storage(patient: CheckContext) -> Iterator[Finding]:
    """Can the study storage be opened, and is it whole?"""
    if not patient.project.runs.is_dir() and patient.storage_url is None:
        return
    storage = open_storage(patient.storage_url, patient.project.runs, create=False)
    try:
        if not storage.exists():
            return
        if storage.sqlite_file is not None:
            answer = storage.read("PRAGMA quick_check")[0]["quick_check"]
            if answer != "ok":
                yield error(
                    "storage",
                    f"{storage.sqlite_file} is damaged ({answer}). Move it away and refill a new "
                    "one: pcan doctor --rebuild",
                )
                return
        storage.rdb  # noqa: B018  opening it tells an Optuna of another version
    finally:
        storage.close()


def check_gpus(patient: CheckContext) -> Iterator[Finding]:
    """Are there GPUs for a job, and are they free?"""
    if patient.device == "cpu":
        return
    gpus = list_gpus()
    if not gpus:
        severe = error if patient.device == "cuda" or patient.gpus else warning
        yield severe(
            "gpus",
            "This machine shows no GPU (nvidia-smi is missing or lists none); jobs would train "
            "on the CPU.",
        )
        return
    allowed = choose(gpus, patient.gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    for gpu in allowed:
        if gpu.in_use:
            yield warning("gpus", f"{gpu.describe_usage()}; it is left alone.")
    needed = patient.sweep.job.gpus if patient.sweep is not None else 1
    gpu_slots([gpu for gpu in allowed if not gpu.in_use], needed, None)


def check_disk(patient: CheckContext) -> Iterator[Finding]:
    """Is there room for the checkpoints to come?"""
    variants = len(patient.sweep.variants) if patient.sweep is not None else 1
    need, why = disk_need(patient.sweep, patient.project, variants)
    free = free_bytes(patient.project)
    if free < need:
        yield error(
            "disk",
            f"{free / 1e9:.1f} GB are free in {patient.project.runs}, and {need / 1e9:.1f} GB are "
            f"needed ({why}). Make room: pcan sweep clean",
        )


def check_ports(patient: CheckContext) -> Iterator[Finding]:
    """Can the ranks of a job meet on this machine?"""
    trouble = loopback_problem()
    if trouble is not None:
        yield error("ports", trouble)
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        yield warning(
            "ports",
            f'This host cannot resolve its own name "{socket.gethostname()}"; some versions of '
            "torchrun need it. Add it to /etc/hosts beside 127.0.0.1.",
        )


def check_wandb(patient: CheckContext) -> Iterator[Finding]:
    """What will W&B be told?"""
    from pipeline.plan.project import MARK
    from pipeline.track.tracking import read_project

    read_project(patient.project.root / MARK)
    mode = os.environ.get("WANDB_MODE")
    if mode not in (None, "online", "offline", "disabled", "dryrun", "run", "shared"):
        yield warning("wandb", f'WANDB_MODE is "{mode}", which W&B does not know. Unset it.')
    if not os.environ.get("WANDB_API_KEY"):
        yield note("wandb", "WANDB_API_KEY is not set: runs are written offline, send them later.")
