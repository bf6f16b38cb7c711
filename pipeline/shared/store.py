"""A prepared store: a folder of packs and what they were made from and for.

    manifest.json   written last; without it the store is unfinished
    train/          profile `fine`: all frames of a clip, JPEG of the region
    val/            exact: the fixed frames that validation shows, lossless

Both sides use this module, so it keeps to Python 3.8, numpy and the standard library.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Tuple, Union

from pipeline.shared.files import FormatError, check_schema
from pipeline.shared.pack import SUFFIX

MANIFEST = "manifest.json"
SCHEMA = 1
#: Goes up when the same clips would give other pictures.
MAKER = 2


class StoreError(Exception):
    """A store is missing, unfinished, of another version, or made for another chain."""


def default_store(root: Path, name: str) -> Path:
    """Return where the store of a sweep, or of an annotation, lies unless a place is named."""
    return root / "data" / "prepared" / name


def spec_data(store: str, folder: Path) -> Dict[str, Any]:
    """Return the `data` of a trial's specification.

    Args:
        store: "video" or "prepared", from the sweep file.
        folder: of the store, if it is a prepared one.

    Raises:
        StoreError: there is no finished store.
    """
    if store != "prepared":
        return dict(store_record(None))
    return {**store_record(folder), "packs": str(folder.resolve())}


def pack_path(root: Path, kind: str, name: str) -> Path:
    """Return where a clip's pack lies; the name may have folders in it."""
    return root / kind / (os.path.splitext(name)[0] + SUFFIX)


def read_manifest(root: Union[str, Path]) -> Dict[str, Any]:
    """Return the manifest of a store.

    Raises:
        StoreError: there is none, or of another version.
    """
    path = Path(root) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"There is no finished store in {root} (no {MANIFEST}). Make it: pcan data prepare"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("maker") != MAKER:
        raise StoreError(
            f"{root} was made by another version of pcan. Make it again: pcan data prepare"
        )
    try:
        check_schema(manifest, SCHEMA, path)
    except FormatError as error:
        raise StoreError(str(error)) from error
    return manifest


def store_record(root: Union[str, Path, None]) -> Dict[str, Optional[str]]:
    """Return where a trial's samples come from, as its record holds it.

    Trials with different records are not comparable.

    Args:
        root: of a prepared store; None means the videos themselves.
    """
    if root is None:
        return {"store": "video", "profile": None, "digest": None}
    manifest = read_manifest(root)
    return {"store": "prepared", "profile": manifest["profile"], "digest": manifest["digest"]}


def store_at(root: Union[str, Path]) -> Dict[str, Any]:
    """Return a store's record with its counts, or why there is none; never raises."""
    try:
        manifest = read_manifest(root)
    except StoreError as error:
        return {"store": None, "problem": str(error)}
    shown = ("counts", "bytes", "limit", "skipped")
    return {**store_record(root), **{key: manifest[key] for key in shown}}


def digest_of(packs: Iterable[Tuple[str, str, int]]) -> str:
    """Return the digest over (kind, clip, checksum of the pack's head), in any order.

    A head's checksum covers the checksums of all stills.
    """
    digest = hashlib.sha256()
    for kind, name, checksum in sorted(packs):
        digest.update(f"{kind}\t{name}\t{checksum:08x}\n".encode())
    return digest.hexdigest()
