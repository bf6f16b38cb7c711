"""What to do about a database server that cannot be used, in one sentence each."""

import os
from pathlib import Path

_PASSWORD = (
    "Give the password in PGPASSWORD, or in a file of mode 0600 that PGPASSFILE names, or in "
    "~/.pgpass: HOST:PORT:DATABASE:USER:PASSWORD"
)
#: What the driver says -> what to do about it.
_REMEDIES = (
    ("password authentication failed", f"The password is wrong. {_PASSWORD}"),
    ("no password supplied", _PASSWORD),
    ("does not exist", "Make it, or correct its name in the URL"),
    ("translate host name", "Correct the host's name in the URL"),
    ("resolve host", "Correct the host's name in the URL"),
    ("connection refused", "Is the server up, and is the port in the URL its own?"),
    ("timeout expired", "Is the server reachable from here? A firewall may be in between"),
    ("no pg_hba.conf entry", "Its administrator has to let this host in (pg_hba.conf)"),
    ("too many clients", "It has no connection left; raise its max_connections"),
)


def postgres_remedy(said: str) -> str:
    """Return what to do about what a driver said, in lower case."""
    if "password" in said:
        ignored = _ignored_file()
        if ignored is not None:
            return f"{ignored} can be read by others, so it is ignored. Run: chmod 600 {ignored}"
    cures = (cure for sign, cure in _REMEDIES if sign in said)
    return next(cures, "Check the URL and the server, or name another storage: --storage URL")


def _ignored_file() -> Path | None:
    """Return the password file that the driver does not read for its permissions."""
    file = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        return file if file.stat().st_mode & 0o077 else None
    except OSError:
        return None
