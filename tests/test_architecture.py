"""ARCHITECTURE.md names files, rooms, arrows and run-directory files that are really there."""

import ast
import re
from pathlib import Path

import pytest

from arrows import ARROWS
from pipeline.shared.rundir import RunDir
from pipeline.shared.states import Phase

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> list[list[str]]:
    rows = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:pipeline|tests|docs)/[^`]*)`", PAGE)))
)
def test_a_named_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_rooms_are_the_folders_with_their_arrows() -> None:
    rooms = {row[0].strip("`").removeprefix("pipeline/"): row[2] for row in table("Rooms")}
    folders = {p.parent.name for p in (ROOT / "pipeline").glob("*/__init__.py")}
    assert set(rooms) == folders
    for room, arrows in ARROWS.items():
        named = set(rooms[room].split(", ")) - {"-"}
        assert named == arrows - {"errors", "env"}, room


def test_the_run_directory_table_has_every_file_once() -> None:
    named = [name for row in table("Run directory") for name in re.findall(r"`([^`]+)`", row[0])]
    run = RunDir("run")
    paths = [
        getattr(run, name) for name, what in vars(RunDir).items() if isinstance(what, property)
    ]
    files = {path.relative_to("run").as_posix() for path in paths if isinstance(path, Path)}
    files |= {"rank0.log", "rank1.log"}
    assert {name.rstrip("/") for name in named} == files
    assert len(named) == len(set(named))


def test_the_states_of_a_trial_are_the_enum() -> None:
    drawn = set(re.findall(r"^    (\w+) --> ", section("Life of a trial"), re.M))
    assert drawn == {str(phase) for phase in Phase}


def test_the_reading_list_stays_short() -> None:
    files = re.findall(r"`([^`]+)`", section("Read these first"))
    assert len(files) == 9
    assert sum((ROOT / f).read_text(encoding="utf-8").count("\n") for f in files) <= 2_000


WRITES = {"write_json", "write_text", "write_bytes", "append_line", "open"}


def written_files(source: Path) -> set[str]:
    """Return the run-directory properties that a module hands to a function that writes."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in WRITES:
            if ast.unparse(node.func) == "open" and not re.search("'[wa]b?'", ast.unparse(node)):
                continue
            place = ast.unparse(node.args[0]).split("(")[0]
            if re.search(r"\b(_?rundir|new|run)\.\w+$", place):
                found.add(place.rpartition(".")[2])
    return found & {*vars(RunDir)}


def test_a_file_of_a_run_directory_is_written_by_the_side_in_the_table() -> None:
    """`outcome.json` alone is written by both; an imported run has no job that could write."""
    sides = {
        name: row[1] for row in table("Run directory") for name in re.findall("`(.+?)`", row[0])
    }
    names = {"predictions_of": "predictions/", "scores_of": "predictions/"} | {
        name: getattr(RunDir("run"), name).name
        for name, what in vars(RunDir).items()
        if isinstance(what, property) and isinstance(getattr(RunDir("run"), name), Path)
    }
    seen = set()
    for source in sorted((ROOT / "pipeline").rglob("*.py")):
        if source.name == "import_runs.py":
            continue
        side = "job" if source.is_relative_to(ROOT / "pipeline" / "train") else "control"
        for name in written_files(source):
            seen.add(names[name])
            assert side in sides[names[name]], f"{source.relative_to(ROOT)} writes {names[name]}"
    assert seen >= {
        "spec.json",
        "measurements.jsonl",
        "verdicts.jsonl",
        "stop.json",
        "outcome.json",
    }


#: What a reader asks first: words by which the page leads there, and the file and function there.
QUESTIONS = {
    "where a gate is judged": ("gates (each judges itself", "plan/gates.py", "judge"),
    "what asks the gates": ("**The judge**", "plan/judge.py", "_verdicts"),
    "what promotes a paused trial": ("**A paused trial**", "launch/search.py", "next_search"),
    "how it gets its checkpoint": (
        "**A paused trial**",
        "launch/resume_checkpoint.py",
        "checkpoint_to_resume",
    ),
    "how its job goes on": ("**A paused trial**", "train/run.py", "load_or_resume"),
    "where a new stopping rule goes": ("**a stopping rule", "plan/search/rules.py", "decide"),
    "which job writes outcome.json": ("| `outcome.json`", "train/outcome.py", "write_outcome"),
    "what makes that final": ("| `outcome.json`", "launch/control_files.py", "write_outcome"),
    "what a killed launch leaves": ("**A killed launch**", "job/process.py", "_die_with_parent"),
    "how its end is known": ("**A killed launch**", "study/owner.py", "is_dead"),
    "what takes its trials up": ("**A killed launch**", "study/claim.py", "claim"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_page_leads_from_a_question_to_the_function_in_one_step(question: str) -> None:
    words, file, function = QUESTIONS[question]
    place = PAGE.split(words, 1)[1].split("\n\n", 1)[0].split("\n- ", 1)[0]
    line = place.split("\n", 1)[0] if words.startswith("|") else place
    assert f"`pipeline/{file}`" in line
    tree = ast.parse((ROOT / "pipeline" / file).read_text(encoding="utf-8"))
    assert function in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
