"""From the keys of a sweep file to its variants: `like`, defaults, names, what must agree.

Works on a file whose keys and types are right (`schema.py`); every error has its line.
"""

from pathlib import Path

from pipeline.errors import SweepFileError
from pipeline.plan import schema
from pipeline.plan.recipe import MISSING, overlay, recipe_value
from pipeline.plan.sweep import (
    BEST_KNOWN,
    Band,
    Data,
    Gate,
    JobSettings,
    Ladder,
    LadderRule,
    Objective,
    Patience,
    Search,
    Slurm,
    Space,
    Sweep,
    Variant,
    WarmStart,
)
from pipeline.plan.yaml_lines import KeyPath, line_of

EPOCHS = "train_cfg.max_epochs"
#: Far beyond any training; a typing error above it would keep every tool busy for hours.
MOST_EPOCHS = 100_000


class Resolver:
    """Turn a checked model into a `Sweep`; raise SweepFileError with the line."""

    def __init__(self, model: schema.SweepModel, shown: str, lines: dict[KeyPath, int]) -> None:
        self._model = model
        self._shown = shown
        self._lines = lines
        self._done: dict[str, Variant] = {}

    def sweep(self, path: Path, root: Path) -> Sweep:
        m = self._model
        variants = {name: self._variant(name, ()) for name in m.variants}
        self._check_case(variants)
        for name, variant in variants.items():
            self._check_variant(name, variant)
        return Sweep(
            path=path,
            root=root,
            name=m.name,
            config=m.config,
            objective=Objective(**m.objective.model_dump()),
            job=JobSettings(**m.job.model_dump()),
            data=Data(**m.data.model_dump()),
            variants=variants,
            ladder=self._ladder(variants),
            slurm=_slurm(m.slurm),
            search=self._search(variants),
            lines=self._lines,
        )

    def _variant(self, name: str, stack: tuple[str, ...]) -> Variant:
        if name in self._done:
            return self._done[name]
        model = self._model.variants[name]
        base = self._base(name, model, stack)
        named = dict(model.set)
        given = model.model_fields_set
        variant = Variant(
            name=name,
            plan=model.plan,
            like=model.like,
            set=overlay(base.set if base else {}, named),
            named=named,
            space=self._space(model, base),
            gates=self._gates(name, model, base),
            bands=self._bands(model, base),
            patience=self._patience(model, base, given),
            warm_start=self._warm_start(model, base, given),
            in_ladder=model.in_ladder,
            seed=model.seed if model.seed is not None else base.seed if base else 0,
        )
        self._done[name] = variant
        return variant

    def _base(
        self, name: str, model: schema.VariantModel, stack: tuple[str, ...]
    ) -> Variant | None:
        if model.like is None:
            return None
        if model.like not in self._model.variants:
            raise self._error(("variants", name, "like"), self._unknown_variant(model.like))
        if model.like in (*stack, name):
            chain = " -> ".join((*stack, name, model.like))
            raise self._error(("variants", name, "like"), f"`like` goes round: {chain}")
        return self._variant(model.like, (*stack, name))

    def _space(self, model: schema.VariantModel, base: Variant | None) -> dict[str, Space]:
        if model.space is None:
            return dict(base.space) if base else {}
        return {path: _space(s) for path, s in model.space.items()}

    def _gates(
        self, name: str, model: schema.VariantModel, base: Variant | None
    ) -> tuple[Gate, ...]:
        if model.gates is not None:
            return self._made_gates(model.gates, ("variants", name, "gates"))
        if base is not None:
            return base.gates
        return self._made_gates(self._model.gates, ("gates",))

    def _made_gates(self, gates: list[schema.GateModel], keys: KeyPath) -> tuple[Gate, ...]:
        best_known = self._model.objective.best_known
        made: list[Gate] = []
        for i, gate in enumerate(gates):
            if gate.floor == BEST_KNOWN and best_known is None:
                problem = "floor is best_known, but objective.best_known is not given"
                raise self._error((*keys, i), problem)
            if made and gate.epoch <= made[-1].epoch:
                problem = (
                    f"epoch {gate.epoch} comes after epoch {made[-1].epoch}; "
                    "write one gate an epoch, in order"
                )
                raise self._error((*keys, i), problem)
            known = gate.floor == BEST_KNOWN
            floor = best_known if isinstance(gate.floor, str) else gate.floor
            fields = gate.model_dump(exclude={"floor"})
            made.append(Gate(**fields, floor=floor, floor_is_best_known=known))
        return tuple(made)

    def _bands(self, model: schema.VariantModel, base: Variant | None) -> tuple[Band, ...]:
        if model.bands is None and base is not None:
            return base.bands
        bands = self._model.bands if model.bands is None else model.bands
        return tuple(Band(epoch=b.epoch, lr=b.lr, top1=(b.top1[0], b.top1[1])) for b in bands)

    def _patience(
        self, model: schema.VariantModel, base: Variant | None, given: set[str]
    ) -> Patience | None:
        if "patience" not in given and base is not None:
            return base.patience
        chosen = model.patience if "patience" in given else self._model.patience
        return Patience(**chosen.model_dump()) if chosen else None

    def _warm_start(
        self, model: schema.VariantModel, base: Variant | None, given: set[str]
    ) -> WarmStart | None:
        if "warm_start" not in given and base is not None:
            return base.warm_start
        chosen = model.warm_start if "warm_start" in given else self._model.warm_start
        return WarmStart(**chosen.model_dump()) if chosen else None

    def _check_case(self, variants: dict[str, Variant]) -> None:
        seen: dict[str, str] = {}
        for name in variants:
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
                place = keys if self._model.variants[name].gates is None else (*keys, "gates")
                problem = f"a gate at epoch {gate.epoch}, but {name} has {epochs} epochs"
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

    def _search(self, variants: dict[str, Variant]) -> Search:
        model = self._model.search
        if model.around is not None and model.around not in variants:
            raise self._error(("search", "around"), self._unknown_variant(model.around))
        if model.around is not None and not variants[model.around].space:
            problem = f"{model.around} has no `space` to search"
            raise self._error(("search", "around"), problem)
        return Search(**{**model.model_dump(), "at": tuple(model.at)})

    def _check_maker(self, name: str, maker: str) -> None:
        keys: KeyPath = ("variants", name, "warm_start", "make")
        keys = keys if keys in self._lines else ("warm_start", "make")
        if maker not in self._model.variants:
            raise self._error(keys, self._unknown_variant(maker))
        if self._variant(maker, ()).warm_start is not None:
            problem = f'"{maker}" makes the starting weights, so it needs `warm_start: null`'
            raise self._error(keys, problem)

    def _ladder(self, variants: dict[str, Variant]) -> Ladder:
        model = self._model.ladder
        if model.start not in variants:
            raise self._error(("ladder", "start"), self._unknown_variant(model.start))
        rules = []
        for i, rule in enumerate(model.after):
            for j, name in enumerate(rule.next):
                if name not in variants:
                    keys = ("ladder", "after", i, "next", j)
                    raise self._error(keys, self._unknown_variant(name))
            below = rule.below
            if below == BEST_KNOWN:
                below = self._model.objective.best_known
            assert not isinstance(below, str)
            rules.append(
                LadderRule(
                    next=tuple(rule.next),
                    epoch=rule.epoch,
                    below=below,
                    rule=rule.rule,
                    cause=rule.cause,
                )
            )
        return Ladder(start=model.start, after=tuple(rules))

    def _unknown_variant(self, name: str) -> str:
        known = ", ".join(self._model.variants)
        return f'there is no variant "{name}"; the file has: {known}'

    def _error(self, keys: KeyPath, problem: str) -> SweepFileError:
        return SweepFileError(f"{self._shown}:{line_of(self._lines, keys)}: {problem}.")


def _space(model: schema.SpaceModel) -> Space:
    given = model.model_dump()
    when = {
        path: tuple(value) if isinstance(value, list) else (value,)
        for path, value in model.when.items()
    }
    return Space(
        **{**given, "choices": tuple(model.choices) if model.choices else None, "when": when}
    )


def _slurm(model: schema.SlurmModel) -> Slurm:
    fields = model.model_dump()
    return Slurm(**{**fields, "nodes": tuple(model.nodes), "extra": tuple(model.extra)})
