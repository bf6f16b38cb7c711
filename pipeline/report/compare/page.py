"""The comparison page: one HTML file with its data, scripts and styles inside, no network.

The parts lie in `static/`; how they draw is documented there.
"""

import base64
import functools
import gzip
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.report.words import LANGUAGES, words
from pipeline.shared.files import write_text

#: The library lies packed in the page and is unpacked there; `app.js` uses the other parts.
LIBRARY = "echarts.custom.min.js"
CURVES = ("top1", "rgb", "pose", "lr", "loss")
SCRIPTS = ("util.js", "unpack.js", "labels.js", "charts.js", "tables.js", "app.js")
#: What a browser accepts from the page itself. Scripts are named by their digest.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def build_page(
    data: Mapping[str, Any], out: Path | None = None, live: bool = False, lang: str = "en"
) -> str:
    """Return the page with the data inside; also write it to `out` if given.

    Args:
        data: what `compare_record.collect` returns.
        lang: of headings, legends and verdicts: "en" or "zh".
        live: the page polls its own server for new data (`--serve`).

    Raises:
        InputError: `out` cannot be written.
    """
    scripts = [_asset(name) for name in SCRIPTS]
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (*scripts, _asset(LIBRARY)))
    connect = "; connect-src 'self'" if live else ""
    parts = {
        "policy": f"{POLICY}; script-src {allowed}{connect}",
        "title": html.escape(str(data["sweep"])),
        "live": "true" if live else "false",
        "style": _asset("style.css"),
        "library": _packed(LIBRARY),
        "words": as_script(words(lang)),
        "lang": LANGUAGES[lang],
        "data": as_script({**data, "trials": [_drawn(trial) for trial in data["trials"]]}),
        "scripts": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    page = re.sub(r"{{(\w+)}}", lambda mark: parts[mark[1]], _asset("page.html"))
    if out is not None:
        _write(out, page)
    return page


def _write(out: Path, page: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
        out.chmod(0o644)  # a page is made to be shared
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}. Use another --out."
        ) from None


def as_script(data: Mapping[str, Any]) -> str:
    """Return JSON that can stand inside a script element whatever its strings hold."""
    text = json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _drawn(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trial whose curves have the digits that a chart can show: half the size."""
    short = {key: [_rounded(value) for value in trial[key]] for key in CURVES}
    return {**trial, **short}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by null; the page draws a gap there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@functools.lru_cache
def _packed(name: str) -> str:
    """Return a part as base64 of its gzip, alike at every call."""
    return base64.b64encode(gzip.compress(_asset(name).encode(), mtime=0)).decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    folder = resources.files("pipeline.report.compare")
    return folder.joinpath("static", name).read_text(encoding="utf-8")
