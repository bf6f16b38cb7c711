"""One HTML file in which all trials of a sweep can be compared, without network or account.

`collect` turns the sweep file and the run directories into plain data, `build_page` puts the
data into the page. The page's own files lie in `page/`; how they draw is their matter.
"""

import base64
import datetime
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.plan.sweep import Sweep
from pipeline.report.compare.plan_side import ladder_of, short, variants_of
from pipeline.report.stats.comparability import incomparable, shown_store, store_of
from pipeline.report.stats.differences import Reading, differences, read
from pipeline.shared.files import read_json, read_lines, write_text
from pipeline.shared.measurement import Measurement, by_epoch
from pipeline.shared.rundir import RunDir, parse_measurements
from pipeline.shared.spec import TrialSpec

#: Order matters: the page's parts use the library, `app.js` uses the parts.
SCRIPTS = ("echarts.min.js", "util.js", "charts.js", "tables.js", "app.js")
#: What one accepts from the page itself. Scripts are named by their digest.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def collect(
    sweep_dir: Path,
    sweep: Sweep | None = None,
    lr_courses: Mapping[str, Sequence[float]] | None = None,
    phases: Mapping[str, str] | None = None,
    importances: Sequence[Mapping[str, Any]] | None = None,
    distant: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Gather what the page shows.

    Args:
        sweep_dir: `runs/<sweep>`.
        sweep: the plan; without it gates and bands come from the trials' own specs.
        lr_courses: by variant, the true learning rate of epochs 1, 2, ...
        phases: by trial name, what only the study storage knows (waiting, paused).
        distant: trials whose run directories other hosts have (`distant.py`).
        importances: by study, which searched values mattered (`study.importance`).
    """
    folders = sorted(
        (spec.parent for spec in sweep_dir.glob("*/*/spec.json")),
        key=lambda p: (p.parent.name, len(p.name), p.name),
    )
    found = [(folder, RunDir(folder).read_spec()) for folder in folders]
    specs = [(folder, spec) for folder, spec in found if spec is not None]
    readings = {folder: read(folder, spec.name, spec) for folder, spec in specs}
    trials = [_trial(folder, spec, phases or {}, readings[folder]) for folder, spec in specs]
    trials += [dict(trial) for trial in distant]
    first = specs[0][1] if specs else TrialSpec()
    variants = variants_of(sweep, specs, lr_courses or {})
    return {
        "schema": 1,
        "sweep": sweep.name if sweep else first.sweep or sweep_dir.name,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "metric": sweep.objective.metric if sweep else first.metric,
        "goal": sweep.objective.goal if sweep else first.goal,
        "best_known": sweep.objective.best_known if sweep else first.best_known,
        "variants": variants,
        "trials": trials,
        "ladder": ladder_of(sweep, trials),
        "not_comparable": _apart(sweep, specs, readings),
        "differences": differences([one for one in readings.values() if one is not None]),
        "importances": list(importances or ()),
    }


def build_page(data: Mapping[str, Any], out: Path | None = None, live: bool = False) -> str:
    """Return the page with the data inside; also write it where `out` says.

    Args:
        live: the page asks its own server for news (`--serve`).
    """
    scripts = [_asset(name) for name in SCRIPTS]
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in scripts)
    connect = "; connect-src 'self'" if live else ""
    parts = {
        "policy": f"{POLICY}; script-src {allowed}{connect}",
        "title": html.escape(str(data["sweep"])),
        "live": "true" if live else "false",
        "style": _asset("style.css"),
        "data": as_script(data),
        "scripts": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    page = re.sub(r"{{(\w+)}}", lambda mark: parts[mark[1]], _asset("page.html"))
    if out is not None:
        _write(out, page)
    return page


def _write(out: Path, page: str) -> None:
    """Replace the file by the whole page."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
        out.chmod(0o644)  # a page is made to be handed round
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}. Use another --out."
        ) from None


def as_script(data: Mapping[str, Any]) -> str:
    """Return JSON that can stand inside a script element whatever its strings hold."""
    text = json.dumps(_plain(data), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return (
        resources.files("pipeline.report.compare")
        .joinpath("static", name)
        .read_text(encoding="utf-8")
    )


def _plain(value: Any) -> Any:
    """Make NaN and infinities null: the page draws a gap there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _trial(
    folder: Path, spec: TrialSpec, phases: Mapping[str, str], reading: Reading | None
) -> dict[str, Any]:
    run = RunDir(folder)
    measured = parse_measurements(read_lines(run.measurements))
    outcome = read_json(run.outcome) or {}
    name = spec.name
    ended = bool(outcome.get("state"))
    phase = "done" if ended else "interrupted" if outcome else "running"
    return {
        "id": name,
        "variant": spec.variant,
        "number": spec.number,
        "recipe": _is_recipe(spec),
        "plan": spec.plan,
        "state": outcome.get("state") or "RUNNING",
        "phase": phase if ended else phases.get(name, phase),
        "std_error": reading.std_error if reading else None,
        "clips": reading.clips if reading else None,
        "predictions": bool(reading and reading.right is not None),
        "imported": (spec.imported or {}).get("log"),
        "confirms": spec.confirms,
        "cause": outcome.get("cause"),
        "reason": outcome.get("reason"),
        "planned": spec.epochs,
        "attempts": max((m.attempt for m in measured), default=spec.attempt or 1),
        "gpu_hours": _gpu_hours(measured, spec),
        "params": spec.values,
        "config": {**spec.overrides, **_circumstances(spec)},
        "verdicts": _verdicts(run),
        "wandb": _wandb_url(run),
        **_curves(by_epoch(measured)),
    }


def _is_recipe(spec: TrialSpec) -> bool:
    """Whether a trial is its variant's recipe as written, run by the plan itself."""
    if spec.imported or spec.confirms:
        return False
    return spec.recipe_hash is not None or spec.number == 0


def _circumstances(spec: TrialSpec) -> dict[str, Any]:
    """Facts beside the config that also explain a difference between two trials."""
    warm = spec.warm_start or {}
    told = {
        "(seed)": spec.seed,
        "(device)": spec.device,
        "(processes)": spec.nproc,
        "(starting weights)": warm.get("checkpoint"),
        "(data store)": shown_store(store_of(spec.data)) or None,
        **{f"(version) {name}": value for name, value in spec.versions.items()},
    }
    return {key: value for key, value in told.items() if value is not None}


def _apart(
    sweep: Sweep | None,
    specs: Sequence[tuple[Path, TrialSpec]],
    readings: Mapping[Path, Reading | None],
) -> str | None:
    """Say which measured trials' samples came from different stores."""
    makers = sweep.makers if sweep is not None else ()
    measured = [(f, spec) for f, spec in specs if readings[f] and spec.variant not in makers]
    return incomparable((spec.name, store_of(spec.data)) for _, spec in measured)


def _curves(measured: Sequence[Measurement]) -> dict[str, list[Any]]:
    """Columns, not rows: half the size, and what a chart wants."""
    return {
        "epochs": [m.epoch for m in measured],
        "top1": [short(m.top1) for m in measured],
        "rgb": [short(m.rgb_top1) for m in measured],
        "pose": [short(m.pose_top1) for m in measured],
        "lr": [short(m.lr) for m in measured],
        "loss": [short(m.loss) for m in measured],
    }


def _gpu_hours(measured: Sequence[Measurement], spec: TrialSpec) -> float | None:
    seconds = sum(m.seconds or 0.0 for m in measured)
    return round(seconds * (spec.nproc or 1) / 3600, 3) if seconds else None


def _verdicts(run: RunDir) -> list[dict[str, Any]]:
    keys = ("epoch", "top1", "verdict", "rule", "threshold", "std_error", "reason", "next")
    return [{key: record.get(key) for key in keys} for record in run.read_verdicts()]


def _wandb_url(run: RunDir) -> str | None:
    url = (read_json(run.wandb / "pcan_sent.json") or {}).get("url")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None
