"""Tests of missing permissions, also where they run as root."""

import contextlib
import os
import pwd
from collections.abc import Iterator


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Do without the right to write everything, which root has."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
