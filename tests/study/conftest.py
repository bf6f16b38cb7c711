"""A PostgreSQL server of the tests' own, on the loopback address."""

import getpass
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _program(name: str) -> str | None:
    found = shutil.which(name)
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return found or (str(newest[0]) if newest else None)


def _needed(what: str) -> None:
    """Skip, unless every server program is required here."""
    if os.environ.get("PCAN_REQUIRE_ENGINES"):
        pytest.fail(f"{what} is required here (PCAN_REQUIRE_ENGINES) and absent")
    pytest.skip(f"{what} is absent")


def _user() -> dict[str, object]:
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


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a fresh, empty server."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        _needed("psycopg (pip install 'pcan[postgres]')")
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        _needed("PostgreSQL (apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    user = _user()
    if user:
        shutil.chown(folder, user=str(user["user"]))
    data = folder / "data"
    words = [initdb, "-D", str(data), "-U", "pcan", "-A", "trust", "-N", "-E", "UTF8"]
    subprocess.run(words, check=True, capture_output=True, cwd="/", **user)  # type: ignore[call-overload]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    words += ["-c", "fsync=off", "-c", "max_connections=60"]
    log = open(tmp_path_factory.mktemp("log") / "postgres.log", "wb")
    process = subprocess.Popen(words, stdout=log, stderr=log, cwd="/", **user)  # type: ignore[call-overload]
    url = f"postgresql+psycopg://pcan@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    import time

    import psycopg

    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, f"the server ended ({getpass.getuser()})"
        try:
            psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server never answered"
            time.sleep(0.1)
