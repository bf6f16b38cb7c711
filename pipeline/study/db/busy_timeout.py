"""How long a busy storage is waited for: long, or a moment while jobs have to be supervised.

The value belongs to the calling thread; another one that reads the same storage has its own.
"""

import contextlib
import contextvars
from collections.abc import Iterator

BUSY_TIMEOUT_S = 60.0
SHORT_TIMEOUT_S = 1.0

_timeout_s = contextvars.ContextVar("storage_busy_timeout_s", default=BUSY_TIMEOUT_S)


def busy_timeout_s() -> float:
    """Return how long this thread waits for a lock that another process holds, in seconds."""
    return _timeout_s.get()


@contextlib.contextmanager
def short_timeout() -> Iterator[None]:
    """Wait no longer than `SHORT_TIMEOUT_S` inside the block."""
    token = _timeout_s.set(SHORT_TIMEOUT_S)
    try:
        yield
    finally:
        _timeout_s.reset(token)
