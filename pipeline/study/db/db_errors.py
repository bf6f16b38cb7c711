"""What the database layer raises, in one sentence for the user."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import StorageError
from pipeline.study.db.server_errors import postgres_remedy
from pipeline.study.db.urls import mask

if TYPE_CHECKING:
    from pipeline.study.db.storage import Storage


@contextlib.contextmanager
def translate_errors(storage: "Storage") -> Iterator[None]:
    """Turn what the database layer raises into one sentence of ours."""
    try:
        storage.check_file_identity()
        yield
    except StorageError:
        raise
    except sqlite3.Error as error:
        raise StorageError(_sentence(storage, error)) from error
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise StorageError(
            f"The storage {storage.shown} was made by another Optuna: {error} "
            "Make a copy first: pcan sweep backup"
        ) from error
    except Exception as error:
        if type(error).__name__ == "StorageInternalError":
            raise StorageError(_sentence(storage, error.__cause__ or error)) from error
        if type(error).__module__.partition(".")[0] in ("sqlalchemy", "psycopg"):
            raise StorageError(_sentence(storage, error)) from error
        raise


def _sentence(storage: "Storage", error: BaseException) -> str:
    text = mask(" ".join(str(getattr(error, "orig", None) or error).split()))
    lowered = text.lower()
    remedy = "Check the URL and the server, or name another storage: --storage URL"
    if storage.sqlite_file is None:
        problem = f"The storage {storage.shown} cannot be used: {text[:300]}."
        return f"{problem} {postgres_remedy(lowered)}."
    if "locked" in lowered or "busy" in lowered:
        remedy = (
            f"Another process has held it for {storage.patience_s:g} s; if that one hangs, end it"
        )
    elif "readonly" in lowered or "read-only" in lowered:
        remedy = "It is read-only; mend its permissions or name another storage: --storage URL"
    elif "full" in lowered or "no space" in lowered:
        remedy = "The disk is full; make room, then run again"
    elif "no such table" in lowered:
        remedy = "It is empty or another one; refill it from the run directories with "
        remedy += "pcan doctor --rebuild"
    return f"The storage {storage.shown} cannot be used: {text[:300]}. {remedy}."
