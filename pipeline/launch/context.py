"""What a launch works with, and how a trial's config, place and command follow from it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.job.process import Command
from pipeline.job.resolve import Resolution, ResolvedConfig, resolve
from pipeline.job.slots import Slot
from pipeline.job.torch_tools import interpreter, job_env
from pipeline.launch.overruled import overruled
from pipeline.launch.scheduler import RunOrder, Schedule, next_trials, prerequisites
from pipeline.launch.search import coupled_rates, next_search, rung_rules_for
from pipeline.launch.trial_lease import Held
from pipeline.launch.workdir import JobPlacement, TrialConfigs
from pipeline.plan.judge import Rules
from pipeline.plan.ladder import VariantOutcome, next_variant
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import Verdict
from pipeline.preflight.machine_overrides import DATA_ROOT
from pipeline.shared.files import read_json
from pipeline.shared.rundir import RunDir
from pipeline.study.db.storage import Storage
from pipeline.study.trial_rows import TrialRow, read_board


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """The facts of a launch.

    Args:
        sets: machine facts by config path (`--set`).
        resolution: every variant's resolved recipe.
        courses: true lr by variant, as far as it is known.
        storage: None for a job without a study.
        tracking: what the tracker needs in each trial's spec.
    """

    sweep: Sweep
    project: Project
    storage: Storage | None
    order: RunOrder
    slots: Sequence[Slot]
    sets: Mapping[str, Any]
    data_root: str | None
    resolution: Resolution
    courses: Mapping[str, Sequence[float]]
    tracking: Mapping[str, Any]

    @property
    def study_storage(self) -> Storage:
        """The storage of a launch that has studies."""
        assert self.storage is not None
        return self.storage

    @property
    def hashes(self) -> dict[str, str]:
        """Digest of each variant's present recipe."""
        return {name: config.hash for name, config in self.resolution.configs.items()}

    def rows(self) -> list[TrialRow]:
        """Return the sweep's trials as the storage has them now."""
        return read_board(self.sweep.name, self.study_storage)

    def plan(self, rows: Sequence[TrialRow]) -> Schedule:
        """Return what is to be run now."""
        starts = {v.warm_start.checkpoint for v in self.sweep.variants.values() if v.warm_start}
        present = {path for path in starts if (self.project.root / path).is_file()}
        search = self.order.search
        if search is None:
            return next_trials(self.sweep, self.order, rows, self.hashes, present)
        makers = prerequisites(self.sweep, [search.variant], rows, self.hashes, present)
        return makers or next_search(self, search, rows)

    def next_variant(self, variant: str) -> str | None:
        """Return the variant that the ladder has reached after `variant` ended."""
        if self.order.search is not None or self.order.variants or self.order.confirms:
            return None
        if self.order.policy != "ladder":
            return None
        step = self.plan(self.rows()).step
        if step is None or step.variant in (None, variant):
            return None
        return step.variant

    def fallback_for(self, verdict: Verdict, tried: Sequence[str]) -> str | None:
        """Return the variant that the ladder names after a verdict that stops."""
        return next_variant(self.sweep, VariantOutcome.of(verdict), tried)

    def rules(self, lease: Held, rundir: RunDir) -> Rules:
        """Return what a trial is judged by; the job says how many clips it validates on."""
        same = lease.previous["recipe_hash"] in (None, self.hashes.get(lease.variant))
        course = self.courses.get(lease.variant) if same and not lease.searched else None
        clips = (read_json(rundir.facts) or {}).get("val_clips")
        rules = Rules.of(self.sweep.variants[lease.variant], true_lr=course, clips=clips)
        facts = lease.previous.get("facts") or {}
        if facts.get("confirms"):
            rules = dataclasses.replace(rules, gates=())  # a seed that is cut short tells nothing
        if facts.get("search"):
            rules = dataclasses.replace(rules, search=rung_rules_for(self, lease, rundir))
        return dataclasses.replace(rules, overruled=overruled(rundir))

    def place(self, slot: Slot) -> JobPlacement:
        """Return where a job on this slot runs."""
        return JobPlacement(
            device=slot.device,
            nproc=self.sweep.job.gpus,
            data_root=self.data_root,
            tracking=self.tracking,
            slots=max(1, len(self.slots)),
            named=list(self.sets),
        )

    def command(self, slot: Slot) -> Command:
        """Return how a job on this slot is started."""
        job = self.sweep.job
        return Command(
            python=interpreter(job, self.project.root),
            nproc=job.gpus,
            cwd=self.project.root,
            env=job_env(job, self.project.root),
            visible=slot.visible,
        )

    def configs(self, lease: Held) -> TrialConfigs:
        """Resolve a trial's config, with and without this machine's facts."""
        variant = self.sweep.variants[lease.variant]
        machine = {key: value for key, value in self.sets.items() if key != DATA_ROOT}
        drawn = lease.params if lease.searched else {}
        if not drawn and not machine:
            pure = self.resolution.configs[lease.variant]
            return TrialConfigs(pure=pure, placed=pure)
        recipe = {**variant.set, **drawn, **coupled_rates(self, lease.variant, drawn)}
        sets = {"pure": recipe, "placed": {**recipe, **machine}}
        found: Mapping[str, ResolvedConfig] = resolve(self.sweep, self.project, sets).configs
        return TrialConfigs(pure=found["pure"], placed=found["placed"])
