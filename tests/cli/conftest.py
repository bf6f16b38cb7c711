"""A project of one sweep, and the command called in this process."""

import sys

import pytest

from pipeline.cli.main import main


@pytest.fixture
def called(project, monkeypatch, capsys):
    """Return exit code and captured output of a command in the project's folder."""
    project.sweep("  baseline: {set: {train_cfg.max_epochs: 2}}\n")
    monkeypatch.chdir(project.root)

    def call(*words: str):
        monkeypatch.setattr(sys, "argv", ["pcan", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr()

    return call
