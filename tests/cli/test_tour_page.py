"""The tour shows what is there: each picture exists, each command is one of pcan's."""

import re
from pathlib import Path

from click.testing import CliRunner

from pipeline.cli.main import cli

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOUR = (DOCS / "tour.md").read_text(encoding="utf-8")


def test_every_picture_is_there_and_every_file_is_shown() -> None:
    shown = set(re.findall(r"\]\((tour/[\w.-]+)\)", TOUR))
    assert shown == {f"tour/{file.name}" for file in (DOCS / "tour").iterdir()}


def test_pictures_need_no_network_and_name_no_machine() -> None:
    for file in (DOCS / "tour").glob("*.svg"):
        text = file.read_text(encoding="utf-8")
        assert "@font-face" not in text and "url(http" not in text
        assert not re.search(r"/(tmp|home|root|work)/", text), file.name


def test_every_command_of_the_tour_is_one() -> None:
    for command in re.findall(r"^## pcan (.+)$", TOUR, re.M):
        words = [word for word in command.split() if word.isalpha() and word != "demo"]
        assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0, command
