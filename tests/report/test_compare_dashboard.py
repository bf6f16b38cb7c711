"""Optuna's dashboard on our storage: the documented address reads everything, changes nothing."""

import re
from pathlib import Path

import optuna
import pytest

from pipeline.study.db.storage import open_storage

DOCS = Path(__file__).parents[2] / "docs" / "compare.md"


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """The storage at the address that the documentation gives."""
    monkeypatch.chdir(tmp_path)
    store = open_storage(None, tmp_path / "runs")
    study = optuna.create_study(study_name="demo/baseline", storage=store.url)
    study.add_trial(optuna.trial.create_trial(value=0.9, params={}, distributions={}))
    url = re.search(r'optuna-dashboard "(\S+)"', DOCS.read_text(encoding="utf-8"))[1]
    return optuna.storages.RDBStorage(url)


def test_shows_the_studies(read_only):
    study = optuna.load_study(study_name="demo/baseline", storage=read_only)
    assert [trial.value for trial in study.trials] == [0.9]


def test_deletes_nothing(read_only):
    with pytest.raises(optuna.exceptions.StorageInternalError):
        optuna.delete_study(study_name="demo/baseline", storage=read_only)
    assert optuna.get_all_study_names(read_only) == ["demo/baseline"]
