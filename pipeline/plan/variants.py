"""From the keys of a sweep file to its variants: `like`, defaults, names, what must agree.

Works on a file whose keys and types are right; every error has its line.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import SweepFileError
from pipeline.plan.gates import Gate
from pipeline.plan.recipe import MISSING, overlay, recipe_value
from pipeline.plan.sweep import (
    INHERITED,
    NULL_IS_A_VALUE,
    Space,
    Sweep,
    SweepFile,
    Variant,
    VariantEntry,
)
from pipeline.plan.yaml_lines import KeyPath, line_of
from pipeline.shared.counted import counted

EPOCHS = "train_cfg.max_epochs"
#: Far beyond any training; a typing error above it would keep every tool busy for hours.
MOST_EPOCHS = 100_000


class Resolver:
    """Turn a file into a `Sweep`; raise SweepFileError with the line."""

    def __init__(self, file: SweepFile, shown: str, lines: dict[KeyPath, int]) -> None:
        self._file = file
        self._shown = shown
        self._lines = lines
        self._done: dict[str, Variant] = {}

    def sweep(self, path: Path, root: Path) -> Sweep:
        self._check_order(self._file.gates, ("gates",))
        variants = {name: self._variant(name, ()) for name in self._file.variants}
        self._check_case()
        for name, variant in variants.items():
            self._check_variant(name, variant)
            self._check_stages(name, variants)
        self._check_ladder()
        self._check_search(variants)
        fields = {**dict(self._file), "variants": variants}
        return Sweep(**fields, path=path, root=root, lines=self._lines)

    def _variant(self, name: str, stack: tuple[str, ...]) -> Variant:
        if name in self._done:
            return self._done[name]
        entry = self._file.variants[name]
        base = self._base(name, entry, stack)
        self._check_order(entry.gates or (), ("variants", name, "gates"))
        inherited = {key: self._inherit(key, entry, base) for key in INHERITED}
        self._done[name] = Variant(
            name=name,
            plan=entry.plan,
            like=entry.like,
            set=overlay(base.set if base else {}, entry.set),
            named=dict(entry.set),
            in_ladder=entry.in_ladder,
            **{key: value for key, value in inherited.items() if value is not None},
        )
        return self._done[name]

    def _inherit(self, key: str, entry: VariantEntry, base: Variant | None) -> Any:
        """Return the entry's own value, else the base's, else that of the file's top level."""
        value = getattr(entry, key)
        if value is not None or (key in NULL_IS_A_VALUE and key in entry.model_fields_set):
            return value
        return getattr(base or self._file, key, None)

    def _base(self, name: str, entry: VariantEntry, stack: tuple[str, ...]) -> Variant | None:
        if entry.like is None:
            return None
        if entry.like not in self._file.variants:
            raise self._error(("variants", name, "like"), self._unknown_variant(entry.like))
        if entry.like in (*stack, name):
            chain = " -> ".join((*stack, name, entry.like))
            raise self._error(("variants", name, "like"), f"`like` goes round: {chain}")
        return self._variant(entry.like, (*stack, name))

    def _check_order(self, gates: tuple[Gate, ...], keys: KeyPath) -> None:
        for i, (before, gate) in enumerate(zip(gates, gates[1:], strict=False), start=1):
            if gate.epoch <= before.epoch:
                problem = (
                    f"epoch {gate.epoch} comes after epoch {before.epoch}; "
                    "write one gate an epoch, in order"
                )
                raise self._error((*keys, i), problem)

    def _check_case(self) -> None:
        seen: dict[str, str] = {}
        for name in self._file.variants:
            other = seen.setdefault(name.lower(), name)
            if other != name:
                problem = f'"{name}" and "{other}" differ in case only'
                raise self._error(("variants", name), problem)

    def _check_variant(self, name: str, variant: Variant) -> None:
        keys: KeyPath = ("variants", name)
        self._check_epochs(name, variant)
        epochs = variant.epochs
        for gate in variant.gates:
            if epochs is not None and gate.epoch > epochs:
                place = keys if self._file.variants[name].gates is None else (*keys, "gates")
                problem = (
                    f"a gate at epoch {gate.epoch}, but {name} has {counted(epochs, 'epoch')}"
                )
                raise self._error(place, problem)
        for path, space in variant.space.items():
            self._check_recipe_inside(name, path, space, variant)
            self._check_condition(name, path, variant)
        made_by = variant.warm_start.make if variant.warm_start else None
        if made_by is not None:
            self._check_maker(name, made_by)

    def _check_epochs(self, name: str, variant: Variant) -> None:
        value = variant.set.get(EPOCHS, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_EPOCHS:
            got = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."
            problem = f"{EPOCHS} of {name} is {got}; write a whole number from 1 to {MOST_EPOCHS}"
            raise self._error(("variants", name, "set", EPOCHS), problem)

    def _check_recipe_inside(self, name: str, path: str, space: Space, variant: Variant) -> None:
        value = recipe_value(variant, path)
        if value is MISSING or space.low is None or space.high is None:
            return
        if not isinstance(value, int | float) or not space.low <= value <= space.high:
            problem = (
                f"the recipe of {name} has {path} = {value}, outside the searched range "
                f"{space.low:g} to {space.high:g}"
            )
            raise self._error(("variants", name, "space", path), problem)

    def _check_condition(self, name: str, path: str, variant: Variant) -> None:
        before = list(variant.space)[: list(variant.space).index(path)]
        for other in variant.space[path].when:
            if other not in before:
                problem = f'"when" names {other}, which is not searched before {path}'
                raise self._error(("variants", name, "space", path), problem)

    def _check_maker(self, name: str, maker: str) -> None:
        keys: KeyPath = ("variants", name, "warm_start", "make")
        keys = keys if keys in self._lines else ("warm_start", "make")
        if maker not in self._file.variants:
            raise self._error(keys, self._unknown_variant(maker))
        if self._variant(maker, ()).warm_start is not None:
            problem = f'"{maker}" makes the starting weights, so it needs `warm_start: null`'
            raise self._error(keys, problem)

    def _check_stages(self, name: str, variants: dict[str, Variant]) -> None:
        """Refuse a stage whose way back to a first one does not end."""
        chain, earlier = [name], variants[name].starts_from
        while earlier is not None:
            keys = self._place_of("best_of", variants[chain[-1]])
            if earlier not in variants:
                raise self._error(keys, self._unknown_variant(earlier))
            if earlier == chain[-1]:
                problem = (
                    f"{earlier} starts from its own best trial; the first stage needs a "
                    "`warm_start` of its own, such as `warm_start: null`"
                )
                raise self._error(keys, problem)
            if earlier in chain:
                problem = f"`best_of` goes round: {' -> '.join((*chain, earlier))}"
                raise self._error(keys, problem)
            chain.append(earlier)
            earlier = variants[earlier].starts_from

    def _place_of(self, key: str, variant: Variant) -> KeyPath:
        """Return where the file has a key of the warm start that a variant uses."""
        while ("variants", variant.name, "warm_start") not in self._lines:
            if variant.like is None:
                return ("warm_start", key)
            variant = self._variant(variant.like, ())
        return ("variants", variant.name, "warm_start", key)

    def _check_search(self, variants: dict[str, Variant]) -> None:
        around = self._file.search.around
        if around is None:
            return
        if around not in variants:
            raise self._error(("search", "around"), self._unknown_variant(around))
        if not variants[around].space:
            raise self._error(("search", "around"), f"{around} has no `space` to search")

    def _check_ladder(self) -> None:
        ladder = self._file.ladder
        if ladder.start not in self._file.variants:
            raise self._error(("ladder", "start"), self._unknown_variant(ladder.start))
        for i, rule in enumerate(ladder.after):
            if rule.complete is not None and rule.complete not in self._file.variants:
                place: KeyPath = ("ladder", "after", i, "complete")
                raise self._error(place, self._unknown_variant(rule.complete))
            for j, name in enumerate(rule.next):
                if name not in self._file.variants:
                    keys = ("ladder", "after", i, "next", j)
                    raise self._error(keys, self._unknown_variant(name))

    def _unknown_variant(self, name: str) -> str:
        known = ", ".join(self._file.variants)
        return f'there is no variant "{name}"; the file has: {known}'

    def _error(self, keys: KeyPath, problem: str) -> SweepFileError:
        return SweepFileError(f"{self._shown}:{line_of(self._lines, keys)}: {problem}.")
