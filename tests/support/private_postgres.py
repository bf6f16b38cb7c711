"""A PostgreSQL server of the tests' own, on the loopback address, under one folder."""

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

#: A role that has to give this password; the others need none.
GUEST, PASSWORD = "guest", "s3cret-of-the-tests"


def program(name: str) -> str | None:
    found = shutil.which(name)
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return found or (str(newest[0]) if newest else None)


def needed(what: str) -> None:
    """Skip, unless every server program is required here."""
    if os.environ.get("PCAN_REQUIRE_ENGINES"):
        pytest.fail(f"{what} is required here (PCAN_REQUIRE_ENGINES) and absent")
    pytest.skip(f"{what} is absent")


class PrivatePostgres:
    """A server that can be stopped and started again.

    Args:
        folder: a new folder in a private one; the socket lies in it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError:
            needed("psycopg (pip install 'pcan[postgres]')")
        if program("initdb") is None or program("postgres") is None:
            needed("PostgreSQL (apt-get install postgresql)")
        self.folder = folder
        self._user = _user()
        folder.mkdir(mode=0o755)
        folder.parent.chmod(0o755)
        if self._user:
            shutil.chown(folder, user=str(self._user["user"]))
        words = ["-D", str(self._data), "-U", "pcan", "-A", "trust", "-N", "-E", "UTF8"]
        self._run(str(program("initdb")), *words)
        hba = self._data / "pg_hba.conf"
        hba.write_text(f"host all {GUEST} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        self.query(f"CREATE ROLE {GUEST} LOGIN PASSWORD '{PASSWORD}'")

    def url(self, database: str = "postgres", user: str = "pcan", port: int | None = None) -> str:
        return f"postgresql+psycopg://{user}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        words = [str(program("postgres")), "-D", str(self._data), "-p", str(self.port)]
        words += ["-h", "127.0.0.1", "-k", str(self.folder), "-c", "max_connections=60"]
        words += ["-c", "fsync=off"]
        with open(self.folder.parent / f"{self.folder.name}.log", "ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd="/", **self._user)
        self._wait()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server; SIGINT ends its sessions, as a restart does."""
        self._process.send_signal(number)
        self._process.wait(30)

    def query(self, text: str, database: str = "postgres") -> None:
        import psycopg

        url = self.url(database).replace("+psycopg", "")
        with psycopg.connect(url, connect_timeout=60, autocommit=True) as connection:
            connection.execute(text)  # type: ignore[call-overload]

    def fresh(self, name: str) -> str:
        """Make an empty database; return its name."""
        self.query(f'CREATE DATABASE "{name}"')
        return name

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, *words: str) -> None:
        subprocess.run(words, check=True, capture_output=True, cwd="/", **self._user)

    def _wait(self) -> None:
        import psycopg

        deadline = time.monotonic() + 240
        while True:
            assert self._process.poll() is None, f"the server ended ({getpass.getuser()})"
            try:
                psycopg.connect(self.url().replace("+psycopg", ""), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "the server never answered"
                time.sleep(0.1)


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root; then it runs as the least user there is."""
    if os.getuid() != 0:
        return {}
    name = next((n for n in ("postgres", "nobody") if _exists(n)), None)
    return {"user": name} if name else {}


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
