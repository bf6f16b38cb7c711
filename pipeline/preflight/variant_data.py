"""Each variant's config as it would run on this machine, and where its data lie.

A variant's `set:` and `--set` may move an annotation, a split or the head's classes, so data are
looked at by variant and not in the base config.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from pipeline.job.resolve import ResolvedConfig, digest, resolve
from pipeline.job.torch_tools import run_tool
from pipeline.plan.project import Project
from pipeline.plan.sweep import Sweep
from pipeline.preflight.machine_overrides import (
    DATA_ROOT,
    apply_data_root,
    data_root,
    missing_data_hint,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderUse:
    """One loader's data, and the variants that read them.

    Args:
        facts: as `tools/data_facts` returns them: loader, ann_file, split, videos, chain.
        classes: of the head that is trained on them, None where the config does not say.
    """

    facts: Mapping[str, Any]
    classes: int | None
    variants: tuple[str, ...]


class VariantData:
    """The variants of a sweep as they would run here.

    Args:
        sets: `--set` by config path.

    Raises:
        InputError: `--set` or a variant names a path that the config does not have.
        NotReady: the folder of the data is missing.
    """

    def __init__(self, sweep: Sweep, project: Project, sets: Mapping[str, Any]) -> None:
        self._sweep, self._project, self._sets = sweep, project, sets
        self._names = list(sweep.variants)
        self.root = data_root(sweep, project, sets)

    @functools.cached_property
    def configs(self) -> Mapping[str, ResolvedConfig]:
        """Each variant's config with `--set`, before the data root is applied."""
        machine = {key: value for key, value in self._sets.items() if key != DATA_ROOT}
        variants = self._sweep.variants
        recipes = {name: {**variants[name].set, **machine} for name in self._names}
        return resolve(self._sweep, self._project, recipes, given=tuple(machine)).configs

    @functools.cached_property
    def texts(self) -> dict[str, str]:
        """Each variant's config as text, its data where this machine has them."""
        return {name: apply_data_root(one.text, self.root) for name, one in self.configs.items()}

    def loaders(self) -> list[LoaderUse]:
        """Return the data of each loader once, with the variants that read them.

        A variant whose data sets are of another form is left out: their own loader checks them.
        """
        by_text = {digest(text): text for text in self.texts.values()}
        answer = run_tool("data_facts", {"configs": by_text}, self._sweep.job, self._project.root)
        found: dict[str, tuple[Mapping[str, Any], int | None, list[str]]] = {}
        for name, text in self.texts.items():
            classes = self.configs[name].facts.get("num_classes")
            for facts in answer["loaders"][digest(text)] or ():
                key = repr((sorted(facts.items()), classes))
                found.setdefault(key, (facts, classes, []))[2].append(name)
        return [
            LoaderUse(facts=facts, classes=classes, variants=tuple(names))
            for facts, classes, names in found.values()
        ]

    def owners(self, use: LoaderUse) -> str:
        """Return the names that a finding begins with; none where all variants share it."""
        whole = len(use.variants) == len(self._names)
        return "" if whole else f"{', '.join(use.variants)}: "

    @property
    def hint(self) -> str:
        """What to do about data that are missing."""
        return missing_data_hint(self._sets, self.root, next(iter(self.texts.values()), ""))
