"""docs/reliability.md has a row for every fault, input and risk, and the tests it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
TESTS = {f.relative_to(ROOT).as_posix(): f.read_text() for f in ROOT.glob("tests/**/test_*.py")}
FUNCTIONS = [n for text in TESTS.values() for n in re.findall(r"^def test_(\w+)\(", text, re.M)]
#: What cannot be provoked here; the page says why.
UNCOVERED = {"F23", "F28", "F29", "S23", "S24", "S26"}


def keys(cell: str) -> list[str]:
    """Return the row names of a first cell: "F43, F44" and "B21-B25" are several."""
    found: list[str] = []
    for part in cell.split(","):
        first, _, last = part.strip().partition("-")
        span = range(int(first[1:]), int((last or first)[1:]) + 1) if first[1:].isdigit() else [0]
        found += [f"{first[0]}{n}" if n else first for n in span]
    return found


def rows() -> dict[str, list[str]]:
    """Return the cells of each row by name."""
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and re.match(r"[FBS]\d", cells[0]):
            found.update(dict.fromkeys(keys(cells[0]), cells))
    return found


ROWS = rows()


def test_all_three_lists_are_whole() -> None:
    wanted = [f"F{n}" for n in range(1, 59)] + [f"B{n}" for n in range(1, 53)]
    wanted += [f"S{n}" for n in range(1, 28)]
    assert [name for name in wanted if name not in ROWS] == []


@pytest.mark.parametrize("name", sorted(set(ROWS) - UNCOVERED))
def test_a_row_names_a_test_and_every_test_it_names_exists(name: str) -> None:
    named = re.findall(r"`([^`]+)`", ROWS[name][3])
    borrowed = ROWS.get(re.sub(r"^(?:as )?(\w\d+).*", r"\1", ROWS[name][3]))
    assert named or (borrowed and "`" in borrowed[3]), f"{name} names no test"
    for words in named:
        assert exists(words), f"{name}: there is no test `{words}`"


def exists(words: str) -> bool:
    """Whether a file, or a test of such a name (`...` for any words), is there."""
    if "/" in words or words.endswith(".py"):
        return any(path.startswith(words) or path.endswith(f"/{words}") for path in TESTS)
    parts = words.partition("[")[0].split("...")
    return any(re.search(".*".join(map(re.escape, parts)), name) for name in FUNCTIONS)
