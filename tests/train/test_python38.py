"""What runs inside a job keeps to Python 3.8: in its syntax, and in the library it calls."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("pipeline/train", "pipeline/shared", "pipeline/job_path", "tests/jobs")
#: Newer methods and functions that are easily written without a thought.
NEWER = {"removeprefix", "removesuffix", "cache", "pairwise", "batched", "is_relative_to", "lcm"}
NEWER |= {"bit_count", "with_stem", "readlink", "hardlink_to"}
BUILTINS = {"list", "dict", "set", "tuple", "frozenset", "type"}


def files() -> list[Path]:
    return [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


def complaints(tree: ast.AST) -> list[str]:
    """Return what a tree that parses as 3.8 still takes from a later library."""
    found = []
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            strict = any(keyword.arg == "strict" for keyword in node.keywords)
            if node.func.id == "zip" and strict:
                found.append(f"{line}: zip(strict=...)")
        if isinstance(node, ast.Attribute) and node.attr in NEWER:
            found.append(f"{line}: .{node.attr}")
        subscripted = node.value if isinstance(node, ast.Subscript) else None
        if isinstance(subscripted, ast.Name) and subscripted.id in BUILTINS:
            found.append(f"{line}: {subscripted.id}[...]")
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if any(isinstance(n, ast.BinOp) for n in ast.walk(note)) if note else False:
                found.append(f"{line}: X | Y as a type")
    return found


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_a_job_keeps_to_python_3_8(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    assert complaints(tree) == []


@pytest.mark.parametrize(
    "text",
    ["match x:\n case 1: pass", "with (open(a) as b, open(c) as d): pass", "x: list[int] = y"]
    + ["zip(a, b, strict=True)", "'ab'.removeprefix('a')", "def f(x: int | None): pass"],
)
def test_the_check_finds_what_is_newer(text: str) -> None:
    try:
        tree = ast.parse(text, feature_version=(3, 8))
    except SyntaxError:
        return
    assert complaints(tree)


def test_another_tool_agrees() -> None:
    pytest.importorskip("vermin", reason="vermin is not in this environment")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import vermin; vermin.main()",
            "-t=3.8-",
            "--violations",
            *FOLDERS,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
