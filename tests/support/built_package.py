"""The package as it is published: a wheel and a source archive, built from this checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(out: Path, source: Path = ROOT, kind: str = "wheel") -> Path:
    """Build a wheel or, with `kind="sdist"`, a source archive; return its file."""
    pytest.importorskip("hatchling", reason="the build backend is not in this environment")
    words = ["-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run([sys.executable, *words], cwd=source, check=True, capture_output=True)
    (made,) = out.glob("pcan-*.whl" if kind == "wheel" else "pcan-*.tar.gz")
    return made


def content(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def install(wheel: Path, folder: Path, python: str) -> Path:
    """Install a wheel alone into a new environment; what it needs comes from another one.

    Args:
        python: the interpreter that has the dependencies.

    Returns:
        The folder of the new environment's programs.
    """
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    new = str(folder / "bin" / "python")
    words = ["--quiet", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", new, *words], check=True)
    # A path in a link is not itself searched for links: an editable pcan stays out.
    asks = "import click, pathlib; print(pathlib.Path(click.__file__).parents[1])"
    found = subprocess.run([python, "-c", asks], check=True, capture_output=True, text=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(found.stdout)
    return folder / "bin"
