"""Re-raise errors of the database layers as one sentence with a remedy."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

from pipeline.errors import StorageError
from pipeline.study.db.urls import mask

#: What to do where the error itself gives no hint.
DEFAULT_REMEDY = "Check the URL and the server, or name another storage: --storage URL"


@contextlib.contextmanager
def translate_errors(shown: str, remedy: Callable[[str], str]) -> Iterator[None]:
    """Re-raise errors of sqlite3, psycopg, SQLAlchemy and Optuna's storage as StorageError.

    Args:
        shown: the storage's URL without secrets.
        remedy: returns what to do about an error, given its text in lower case.
    """
    try:
        yield
    except StorageError:
        raise
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise StorageError(
            f"The storage {shown} was made by another Optuna: {error} "
            "Make a copy first: pcan sweep backup"
        ) from error
    except Exception as error:
        cause = _database_error(error)
        if cause is None:
            raise
        text = mask(" ".join(str(getattr(cause, "orig", None) or cause).split()))
        problem, instead = _ended(text[:300]), _ended(remedy(text.lower()))
        raise StorageError(f"The storage {shown} cannot be used: {problem} {instead}") from error


def _ended(sentence: str) -> str:
    """Return a sentence with the mark that ends it."""
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _database_error(error: Exception) -> BaseException | None:
    """Return what explains the database's failure, None for an error of another kind."""
    if type(error).__name__ == "StorageInternalError":
        return error.__cause__ or error
    library = type(error).__module__.partition(".")[0]
    known = isinstance(error, sqlite3.Error) or library in ("sqlalchemy", "psycopg")
    return error if known else None
