"""Has a fork of a process that has imported torch answer what a launch asks of its configs."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import tiny_run
from pipeline.errors import InputError, NotReady, PcanError
from pipeline.job import resolve
from pipeline.job.slots import cpu_slots
from pipeline.job.torch_tools import job_env, run_tool
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import JobSettings
from pipeline.preflight.machine_overrides import data_root
from pipeline.preflight.memory_check import held_memory
from pipeline.preflight.model_probe import DataPlacement, probe_models


def rehearse_ahead(root: Path, name: str, environment: Mapping[str, str]) -> None:
    """Rehearse a sweep's configs, so that a launch there finds the answers kept.

    The tool is the one that the launch would start, and so is what it reads. Where a config has a
    problem nothing is kept: the launch starts its own child, and says so.

    Args:
        environment: of the launch.
    """
    changed = mock.patch.dict(os.environ, environment, clear=True)
    forked = mock.patch.object(resolve, "run_tool", _in_a_fork)
    with changed, forked, contextlib.suppress(PcanError, OSError):
        _rehearse(root, name)


def _rehearse(root: Path, name: str) -> None:
    project = Project(root)
    sweep = read_sweep(project.sweep_file(name), root)
    if sweep.job.python is not None:
        return
    resolution = resolve.resolve_variants(sweep, project)
    placement = DataPlacement(root=data_root(sweep, project, {}), sets={})
    asked = (sweep, project, resolution, list(sweep.variants), _say_nothing, placement)
    with held_memory(cpu_slots(1), sweep.job.gpus) as memory:
        probe_models(*asked, memory=memory)


def _say_nothing(line: str) -> None:
    pass


def _in_a_fork(
    tool: str, request: dict[str, Any], job: JobSettings, root: Path, gpu: str = ""
) -> dict[str, Any]:
    """Take the place of `run_tool`."""
    if tool != "probe":
        return run_tool(tool, request, job, root, gpu)
    environment = {**job_env(job, root), "CUDA_VISIBLE_DEVICES": gpu}
    answer = tiny_run.ask_as_a_child(tool, request, root, environment)
    if answer is None:
        raise NotReady("the fork has not answered")
    if "error" in answer:
        raise InputError(str(answer["error"]))
    return answer
