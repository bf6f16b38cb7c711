"""Ask the W&B server, without wandb, how many rows of a run it holds.

wandb's own client takes up to 100 seconds to report a dead server, and reports success when
an upload was refused. One plain request with a short deadline settles both. Standard library only.
"""

import base64
import configparser
import json
import netrc
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import TrackingError

PUBLIC = "https://api.wandb.ai"
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_QUERY = """
query RunRows($entity: String, $project: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { historyLineCount historyTail }
  }
}
"""


class NoServer(TrackingError):
    """The server cannot be used at all now; other runs would fail the same way."""


@dataclass(frozen=True, kw_only=True)
class ServerRun:
    """What the server has of a run."""

    exists: bool
    rows: int
    last_epoch: int | None


def base_url() -> str:
    """Return the server's address: environment, W&B's own settings file, or the public one."""
    given = os.environ.get("WANDB_BASE_URL")
    if not given:
        folder = os.environ.get("WANDB_CONFIG_DIR", str(Path.home() / ".config" / "wandb"))
        parser = configparser.ConfigParser()
        try:
            parser.read(Path(folder) / "settings")
            given = parser.get("default", "base_url", fallback=None)
        except configparser.Error:
            given = None
    return (given or PUBLIC).rstrip("/")


def find_key() -> str | None:
    """Return the API key of the environment or of ~/.netrc, without a prompt."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        entry = netrc.netrc(str(file)).authenticators(urlsplit(base_url()).netloc)
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None


def key_present() -> bool:
    """Whether runs could be sent from here (for `launch` and `doctor`)."""
    return find_key() is not None


def held(entity: str | None, project: str, run_id: str, timeout_s: float = 10.0) -> ServerRun:
    """Return what the server has of a run.

    Raises:
        NoServer: it does not answer or fails, or the key is missing or refused.
    """
    given = {
        "entity": entity or os.environ.get("WANDB_ENTITY"),
        "project": project,
        "name": run_id,
    }
    answer = _ask({"query": _QUERY, "variables": given}, timeout_s)
    model = (answer.get("data") or {}).get("model") or {}
    bucket = model.get("bucket")
    if not bucket:
        return ServerRun(exists=False, rows=0, last_epoch=None)
    return ServerRun(
        exists=True,
        rows=int(bucket.get("historyLineCount") or 0),
        last_epoch=_last_epoch(bucket.get("historyTail")),
    )


def default_entity(timeout_s: float = 10.0) -> str | None:
    """Return the user or team that the key belongs to."""
    if given := os.environ.get("WANDB_ENTITY"):
        return given
    answer = _ask({"query": "query Viewer { viewer { entity } }", "variables": {}}, timeout_s)
    entity = ((answer.get("data") or {}).get("viewer") or {}).get("entity")
    return str(entity) if entity else None


def _last_epoch(tail: Any) -> int | None:
    """Return the epoch of the last row; the tail is a JSON list of JSON strings."""
    try:
        row = json.loads(json.loads(tail)[-1])
        return int(row["epoch"])
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def _ask(question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    server, key = base_url(), find_key()
    parts = urlsplit(server)
    if key is None:
        raise NoServer(
            f"There is no W&B key for {parts.netloc}. "
            "Log in once, or set WANDB_API_KEY: wandb login"
        )
    if parts.scheme != "https" and parts.hostname not in _LOCAL_HOSTS:
        raise NoServer(
            f"The W&B server {server} is plain http, which would send the key readably. "
            "Set WANDB_BASE_URL to its https address."
        )
    request = urllib.request.Request(
        f"{server}/graphql",
        data=json.dumps(question).encode(),
        headers={
            "Content-Type": "application/json",
            "User-Agent": "pcan",
            "Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode(),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
            answer = json.loads(reply.read())
    except urllib.error.HTTPError as error:
        raise NoServer(_refusal(parts.netloc, error.code)) from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        raise NoServer(f"The W&B server {parts.netloc} does not answer ({cause}).") from None
    if not isinstance(answer, dict):
        raise NoServer(f"The W&B server {parts.netloc} returned an unexpected response.")
    return answer


def _refusal(host: str, status: int) -> str:
    if status in (401, 403):
        return (
            f"The W&B server {host} refuses the key (status {status}). Log in again: wandb login"
        )
    if status == 429:
        return f"The W&B server {host} asks to slow down (status 429). Send later: pcan sweep sync"
    return f"The W&B server {host} answers with status {status}. Send later: pcan sweep sync"
