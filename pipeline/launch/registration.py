"""Register a sweep's variants as studies."""

from collections.abc import Sequence

from pipeline.job.resolve import Resolution
from pipeline.plan.sweep import Sweep
from pipeline.study.db.storage import Storage
from pipeline.study.register import Registered, recipe_of, register


def register_all(sweep: Sweep, storage: Storage, resolution: Resolution) -> list[Registered]:
    """Register every variant with its resolved recipe."""
    recipes = {
        name: recipe_of(variant, resolution.configs[name].hash)
        for name, variant in sweep.variants.items()
    }
    return register(sweep, storage, recipes)


def describe(done: Sequence[Registered]) -> list[str]:
    """Return a line for each thing that registering changed."""
    new = [r.variant for r in done if r.created]
    lines = [f"Registered: {', '.join(new)}."] if new else []
    for r in done:
        if r.new_recipe:
            lines.append(f"{r.variant}: the recipe has changed; it gets a new trial.")
        if r.changed:
            lines.append(f"{r.variant}: {', '.join(r.changed)} changed; recorded with the date.")
    return lines
