"""A server that cannot be used is named in one sentence, with exit code 4 and no secret."""

import os
import uuid
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.study.db.storage import Storage, open_storage
from private_postgres import GUEST, PASSWORD

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def refusal(url: str, folder: Path) -> str:
    """Return what is said when a storage is opened that cannot be."""
    with pytest.raises(StorageError) as caught:
        storage = open_storage(url, folder)
        try:
            storage.rdb  # noqa: B018
        finally:
            storage.close()
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_a_wrong_password_is_said_and_never_shown(postgres, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wr0ng-canary")
    said = refusal(postgres.url(user=GUEST), tmp_path)
    assert "The password is wrong. Give the password in PGPASSWORD" in said
    assert "wr0ng-canary" not in said
    inside = postgres.url(user=f"{GUEST}:wr0ng-canary")
    said = refusal(inside, tmp_path)
    assert "The password is wrong" in said and "wr0ng-canary" not in said


def test_no_password_names_the_two_places_for_it(postgres, tmp_path: Path) -> None:
    said = refusal(postgres.url(user=GUEST), tmp_path)
    assert "PGPASSWORD" in said and "mode 0600" in said


def test_a_private_password_file_is_read_and_an_open_one_named(
    postgres, tmp_path: Path, monkeypatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"127.0.0.1:{postgres.port}:*:{GUEST}:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    storage = open_storage(postgres.url(user=GUEST), tmp_path)
    assert storage.now() > 0 and PASSWORD not in storage.shown
    storage.close()
    file.chmod(0o644)
    said = refusal(postgres.url(user=GUEST), tmp_path)
    assert f"{file} can be read by others, so it is ignored. Run: chmod 600 {file}" in said


def test_an_unreachable_server_a_wrong_host_and_a_missing_database(
    postgres, tmp_path: Path
) -> None:
    assert "Is the server up, and is the port" in refusal(postgres.url(port=1), tmp_path)
    said = refusal("postgresql+psycopg://pcan@nowhere.invalid/x", tmp_path)
    assert "Correct the host's name in the URL" in said
    said = refusal(postgres.url("nosuch"), tmp_path)
    assert "Make it, or correct its name in the URL" in said


@pytest.mark.parametrize("driver", ["postgresql+nosuch", "postgresql+pg8000"])
def test_a_missing_driver_names_what_to_install(tmp_path: Path, driver: str) -> None:
    said = refusal(f"{driver}://me:geheim@host/x", tmp_path)
    assert "pip install 'pcan[postgres]'" in said and "geheim" not in said


def test_the_schema_of_another_optuna_is_refused_with_the_copy_to_make_first(
    postgres, tmp_path: Path
) -> None:
    name = postgres.fresh(f"d{uuid.uuid4().hex[:12]}")
    storage = Storage(postgres.url(name))
    storage.rdb  # noqa: B018
    storage.close()
    postgres.query("UPDATE alembic_version SET version_num = 'v9.9.9.a'", name)
    said = refusal(postgres.url(name), tmp_path)
    assert "was made by another Optuna" in said and "Make a copy first" in said
    assert "PGPASSWORD" not in os.environ
