"""What a start of a trial's job runs with, as `spec.json` and a line of `starts.jsonl` hold it."""

from typing import Any

from pipeline.job.provenance import code_of, data_digests, gpu_of, job_versions, versions
from pipeline.job.resolve import ResolvedConfig
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import code_root
from pipeline.launch.control_files import audit_stamp
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.model_probe import store_data
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec


def run_with(
    project: Project,
    sweep: Sweep,
    rundir: RunDir,
    config: ResolvedConfig,
    slot: Slot,
    data_root: str | None,
) -> dict[str, Any]:
    """Return the fields of a trial's specification that say what this start runs with.

    Uncommitted changes are kept in the run directory.

    Args:
        data_root: where this machine has the data, None for the place in the config.

    Raises:
        NotReady: the prepared store that the sweep file asks for is not there.
    """
    own = sweep.job.code_root
    splits = config.facts.get("ann_splits") or {}
    digests = data_digests(project.root, config, data_root)
    return {
        "code": {
            "project": code_of(project.root, rundir.code),
            "code_root": code_of(code_root(own, project.root), rundir.code) if own else None,
        },
        "versions": {**versions(("pcan", "optuna")), **job_versions(sweep.job, project.root)},
        "gpu": gpu_of(slot),
        "data": {
            **sweep.data.model_dump(),
            **store_data(sweep, project),
            **({"sha256": digests} if digests else {}),
            **({"splits": dict(splits)} if splits else {}),
        },
    }


def start_line(spec: TrialSpec) -> dict[str, Any]:
    """Return the record of a start by this specification, for `starts.jsonl`."""
    data = spec.data or {}
    return {
        "attempt": spec.attempt,
        **audit_stamp(),
        "device": spec.device,
        "code": spec.code,
        "versions": spec.versions,
        "gpu": spec.gpu,
        **({"speed": spec.speed} if spec.speed else {}),
        "data": {
            **{key: data[key] for key in ("store", "digest") if data.get(key)},
            **(data.get("sha256") or {}),
        },
    }
