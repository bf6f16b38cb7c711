"""`requirements/lock.txt` pins what pyproject.toml asks for, by digest and without addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
PINS = {canonicalize_name(name): pin for name, pin in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.M)}


def asked() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["test"]]


@pytest.mark.parametrize("text", asked())
def test_what_is_asked_for_is_pinned_within_its_range(text: str) -> None:
    wanted = Requirement(text)
    assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)])


def test_every_pin_but_that_of_torch_has_digests() -> None:
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.M)[1:]
    without = [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block]
    assert without == ["torch"]


def test_the_lock_names_no_address() -> None:
    assert "://" not in LOCK and "--index" not in LOCK and "--find-links" not in LOCK
