"""What a check of a plan looks at, and what it finds."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from pipeline.plan.sweep import Sweep, Variant

#: A min_delta under this share of the standard error follows chance, not progress.
FAR_BELOW_ERROR = 1 / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One finding about a plan.

    Args:
        severity: "error": a rule cannot work; "warning": probably not what was meant;
            "note": good to know.
        where: file:line.
        why: what comes of it.
        instead: what to write.
        resolved: the reading that settles it, None if it is open.
    """

    id: str
    severity: str
    where: str
    message: str
    why: str
    instead: str
    resolved: str | None = None

    @classmethod
    def error(cls, id: str, where: str, message: str, *, why: str, instead: str) -> Self:
        """Return the finding that a rule cannot work."""
        return cls(id=id, severity="error", where=where, message=message, why=why, instead=instead)

    @classmethod
    def warning(cls, id: str, where: str, message: str, *, why: str, instead: str) -> Self:
        """Return the finding that a rule probably does not do what was meant."""
        return cls(
            id=id, severity="warning", where=where, message=message, why=why, instead=instead
        )

    @classmethod
    def note(
        cls,
        id: str,
        where: str,
        message: str,
        *,
        why: str,
        instead: str = "nothing, if the reading is right",
        resolved: str | None = None,
    ) -> Self:
        """Return a finding that is good to know."""
        return cls(
            id=id,
            severity="note",
            where=where,
            message=message,
            why=why,
            instead=instead,
            resolved=resolved,
        )

    def record(self) -> dict[str, Any]:
        """Return the finding as JSON shows it."""
        fields = dataclasses.asdict(self)
        return {**fields, "resolved": self.resolved is not None, "reading": self.resolved}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LintContext:
    """A plan with what is known around it.

    Args:
        clips: size of the validation set, if known.
        true_lr: by variant, the rate in force during epochs 1, 2, ...
        validated: by variant, the epochs that its config validates.
        epochs: by variant, its number of epochs where only the base config says so.
    """

    sweep: Sweep
    clips: int | None = None
    true_lr: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    validated: Mapping[str, frozenset[int]] = dataclasses.field(default_factory=dict)
    epochs: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def epochs_of(self, variant: Variant) -> int | None:
        """Return how many epochs a variant trains, if known."""
        return variant.epochs or self.epochs.get(variant.name)

    def own(self, key: str) -> Iterator[tuple[Variant, tuple[str | int, ...]]]:
        """Yield the variants with the place where `key` stands, each place once."""
        seen = set()
        for variant in self.sweep.variants.values():
            place = self._place(variant, key)
            if place not in seen:
                seen.add(place)
                yield variant, place

    def _place(self, variant: Variant, key: str) -> tuple[str | int, ...]:
        while ("variants", variant.name, key) not in self.sweep.lines:
            if variant.like is None:
                return (key,)
            variant = self.sweep.variants[variant.like]
        return ("variants", variant.name, key)


Check = Callable[[LintContext], Iterator[LintFinding]]


def lint_context(
    sweep: Sweep,
    bases: Mapping[str, Mapping[str, Any]],
    true_lr: Mapping[str, Sequence[float]],
    clips: int | None = None,
) -> LintContext:
    """Return a plan as the checks want it.

    Args:
        bases: facts of each base config by its path, empty if it could not be read.
        true_lr: by variant.
    """
    validated, epochs = {}, {}
    for name, variant in sweep.variants.items():
        base = bases.get(variant.config, {})
        last = variant.epochs or base.get("max_epochs")
        begin = _setting(variant, base, "val_begin")
        interval = _setting(variant, base, "val_interval")
        if isinstance(last, int):
            epochs[name] = last
        if isinstance(last, int) and isinstance(begin, int) and isinstance(interval, int):
            due = {e for e in range(begin, last + 1) if e % max(1, interval) == 0 or e == last}
            validated[name] = frozenset(due)
    return LintContext(
        sweep=sweep, clips=clips, true_lr=true_lr, validated=validated, epochs=epochs
    )


def _setting(variant: Variant, base: Mapping[str, Any], key: str) -> Any:
    return variant.set.get(f"train_cfg.{key}", base.get(key))
