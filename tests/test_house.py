"""How the package is built: no import cycles, one name for one thing, states by their enums."""

import ast
import collections
import itertools
import re
from pathlib import Path

from arrows import ARROWS
from pipeline.shared import states

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "pipeline").rglob("*.py"))
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}


def imported(name: str) -> set[str]:
    """Return the modules of ours that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module for module in found if module in FILES and module != name}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Lazy imports and those for type checkers count: take away leaves until none is left."""
    graph = {name: imported(name) for name in FILES}
    while leaves := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert not graph


def test_a_module_name_stands_in_one_room() -> None:
    stems = collections.Counter(file.stem for file in FILES.values())
    shared = {"__init__", "__main__", "text", "runner"}
    assert [stem for stem, count in stems.items() if count > 1 and stem not in shared] == []


def test_a_public_class_has_its_name_alone() -> None:
    names = collections.Counter(
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_every_room_has_its_arrows() -> None:
    rooms = {file.parent.name for file in (ROOT / "pipeline").glob("*/__init__.py")}
    assert rooms - {"cli", "train"} == ARROWS.keys()


def test_the_quick_tests_cover_every_room() -> None:
    files = [ROOT / line for line in (ROOT / "tests/quick.txt").read_text().splitlines()]
    assert [file for file in files if not file.is_file()] == []
    rooms = {file.parent.name for file in (ROOT / "pipeline").glob("*/__init__.py")}
    assert rooms <= {file.parent.name for file in files}


#: The same words with another meaning: SLURM's states, numbers, columns of W&B.
OTHER_MEANINGS = {
    ("slurm.py", "RUNNING"),
    ("epoch_table.py", "nan"),
    ("fields.py", "nan"),
    ("yaml_lines.py", "nan"),
    ("run_payload.py", "gate"),
    ("workspace.py", "gate"),
}


def test_states_are_spelled_in_their_enums_alone() -> None:
    """Optuna's states in all places; phases and causes where one could be meant by the word."""
    words = {str(state) for state in states.State} | {"interrupted", "paused", "nan", "gate"}
    places = [
        f"{FILES[name].relative_to(ROOT)}:{node.lineno} {node.value}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in words and isinstance(node.value, str)
        if name != states.__name__ and (FILES[name].name, node.value) not in OTHER_MEANINGS
    ]
    assert places == []


#: Nouns that messages count. After "of" and "all" the plural is right for any number.
COUNTED = (
    r"^ (epochs|GPUs|trials|clips|seeds|files|variants|classes|ranks|workers|attempts|logs|jobs|"
    r"sweeps|samples|videos|tensors|processes|slots|findings|lines)\b"
)
#: A plural by what is written: a sum over a whole data set, a constant, a column of a table.
SURELY_MANY = {"sweep_files.py", "differences.py", "decode.py", "learning.py"} | {
    *("search_estimate.py", "sweep_status.py", "slurm.py", "sweep_stop.py"),
    *("dispatcher.py", "config_check.py", "reporters.py"),
}


def test_counts_stand_in_messages_by_one_helper() -> None:
    places = [
        f"{FILES[name].relative_to(ROOT)}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and _counts_by_hand(node)
        if FILES[name].name not in SURELY_MANY
    ]
    assert places == []


def _counts_by_hand(node: ast.JoinedStr) -> bool:
    """Whether a number is put before a plural noun that it may not agree with."""
    before = ""
    for part, after in itertools.pairwise([*node.values, ast.Constant("")]):
        text = str(after.value) if isinstance(after, ast.Constant) else ""
        if isinstance(part, ast.Constant):
            before = str(part.value)
        elif not isinstance(part, ast.FormattedValue) or part.format_spec is not None:
            continue
        elif re.match(COUNTED, text) and not re.search(r"\b([Oo]f|[Aa]ll|each) $", before):
            return True
    return any("(s)" in str(p.value) for p in node.values if isinstance(p, ast.Constant))
