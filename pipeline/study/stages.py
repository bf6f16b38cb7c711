"""Stages of a sweep: variants that start from the best trial of another one (`best_of`).

A stage's recipe is its config and the trial it starts from: see `docs/decisions/058`. So another
best trial, or a changed recipe, of an earlier stage makes every later one old, and its next trial
is a new one. Worked out from the trials' rows alone; no checkpoint is read.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.plan.ladder import retry_command
from pipeline.plan.sweep import Sweep
from pipeline.plan.verdict import percent
from pipeline.shared.states import State
from pipeline.study.best import best_candidate
from pipeline.study.trial_rows import TrialRow


class Stages:
    """The stages of a sweep as its trials stand.

    Args:
        hashes: digest of each variant's resolved config; None: as they were registered last.
        staged: the digests are those of recipes already, as `recipes` returns them.
    """

    def __init__(
        self,
        sweep: Sweep,
        rows: Sequence[TrialRow],
        hashes: Mapping[str, str] | None = None,
        staged: bool = False,
    ) -> None:
        self._sweep = sweep
        self._rows = rows
        self._hashes = hashes
        self._staged = staged
        self._starts: dict[str, TrialRow | None] = {}

    @property
    def names(self) -> list[str]:
        """The variants that are later stages, in the file's order."""
        return [name for name, variant in self._sweep.variants.items() if variant.starts_from]

    def start_of(self, variant: str) -> TrialRow | None:
        """Return the trial a stage starts from; None if there is none yet, or it is not a stage.

        It is the best complete one of the earlier stage's present recipe.
        """
        if variant not in self._starts:
            earlier = self._sweep.variants[variant].starts_from
            found = self._complete(earlier) if earlier is not None else []
            self._starts[variant] = best_candidate(found, self._rows)
        return self._starts[variant]

    def recipes(self) -> dict[str, str]:
        """Return the digest of each variant's present recipe; stages that wait have none."""
        found = {name: self._recipe(name) for name in self._sweep.variants}
        return {name: digest for name, digest in found.items() if digest is not None}

    def chosen(self, variant: str, recipe_hash: str | None) -> TrialRow | None:
        """Return the trial whose weights a stage's recipe names; the best one for any other."""
        earlier = self._sweep.variants[variant].starts_from
        config = (self._hashes or {}).get(variant, "")
        same = [r for r in self._complete(earlier or "") if _digest(config, r) == recipe_hash]
        return same[0] if same else self.start_of(variant)

    def waiting(self) -> dict[str, str]:
        """Return why each stage without a trial to start from waits, with the next command."""
        return {name: self._wait(name) for name in self.names if self.start_of(name) is None}

    def old(self) -> dict[str, str]:
        """Return, by trial, why it is old: its weights are not those its stage starts from now."""
        found = {}
        for row in self._rows:
            began = row.facts.get("stage")
            if began and row.variant in self._sweep.variants and not self._is_present(row):
                found[row.name] = f"{row.name} is old: {self._why_old(row, began)}"
        return found

    def old_of(self, variants: Collection[str]) -> list[str]:
        """Return why trials of these variants are old, a line each."""
        return [line for name, line in self.old().items() if name.rpartition("/")[0] in variants]

    def needed(self) -> set[str]:
        """Return the trials whose checkpoints later stages start from, or go on needing."""
        starts = [row for name in self.names if (row := self.start_of(name)) is not None]
        begun = [r.facts["stage"] for r in self._rows if r.facts.get("stage") and not r.finished]
        return {row.name for row in starts} | {str(one.get("trial")) for one in begun}

    def _recipe(self, variant: str) -> str | None:
        if self._hashes is None:
            registered = [r for r in self._rows if r.variant == variant and r.recipe_hash]
            return registered[-1].recipe_hash if registered else None
        if self._staged or self._sweep.variants[variant].starts_from is None:
            return self._hashes.get(variant)
        start = self.start_of(variant)
        return _digest(self._hashes.get(variant, ""), start) if start is not None else None

    def _complete(self, variant: str) -> list[TrialRow]:
        """Return a variant's complete trials of its present recipe, the best reading first."""
        digest = self._recipe(variant) if variant else None
        own = [row for row in self._rows if row.variant == variant]
        first = next((r.number for r in own if r.recipe_hash == digest), None)
        if digest is None or first is None:
            return []
        complete = [
            row
            for row in own
            if row.state == State.COMPLETE
            and row.best_top1 is not None
            and row.is_regular
            # One drawn from the space belongs to the recipe that was registered before it.
            and (row.recipe_hash == digest or (row.recipe_hash is None and row.number > first))
            and self._is_present(row)
        ]
        return sorted(complete, key=lambda row: -(row.best_top1 or 0.0))

    def _is_present(self, row: TrialRow) -> bool:
        """Whether a trial began with the weights that its stage starts from now."""
        if self._sweep.variants[row.variant].starts_from is None:
            return not row.facts.get("stage")
        start, began = self.start_of(row.variant), row.facts.get("stage") or {}
        return start is not None and identity(start) == (began.get("uid"), began.get("epoch"))

    def _wait(self, variant: str) -> str:
        earlier = str(self._sweep.variants[variant].starts_from)
        first = self._first_waiting(earlier)
        recipe = self._recipe(earlier)
        runs = any(
            r.variant == earlier and not r.finished and r.recipe_hash in (None, recipe)
            for r in self._rows
        )
        state = "no complete trial yet" if runs or recipe is None else "no complete trial"
        return (
            f"{variant} starts from the best trial of {earlier}, which has {state} of its present "
            f"recipe. Run it first: {retry_command(self._sweep.name, first)}"
        )

    def _first_waiting(self, variant: str) -> str:
        """Return the earliest stage that has to be run before `variant` is complete."""
        earlier = self._sweep.variants[variant].starts_from
        if earlier is None or self.start_of(variant) is not None:
            return variant
        return self._first_waiting(earlier)

    def _why_old(self, row: TrialRow, began: Mapping[str, Any]) -> str:
        before = f"it began with {began.get('trial')} ({percent(began.get('top1') or 0.0)})"
        earlier = self._sweep.variants[row.variant].starts_from
        if earlier is None:
            return f"{before}, and the sweep file no longer starts {row.variant} from a trial"
        start = self.start_of(row.variant)
        again = retry_command(self._sweep.name, row.variant)
        if start is None:
            return f"{before}, and {earlier} has no complete trial of its present recipe"
        now = f"the best of {earlier} is now {start.name} ({percent(start.best_top1 or 0.0)})"
        return f"{before}; {now}. Train it from there: {again}"


def identity(row: TrialRow) -> tuple[str | None, int | None]:
    """Return what names a complete trial's best weights, without reading them."""
    return row.uid, row.best_epoch


def _digest(config_hash: str, start: TrialRow) -> str:
    """Return the digest of a stage's recipe: its config, and the weights it starts from."""
    record = json.dumps([config_hash, "best_of", *identity(start)])
    return hashlib.sha256(record.encode()).hexdigest()
