"""A project of an earlier version is opened, shown, exported from and gone on with."""

import hashlib
import json
import re
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import frozen  # noqa: E402
from command_tree import commands, root_command  # noqa: E402
from old_project import PAUSED, TRIALS, GoneOn, OldProject  # noqa: E402

LEFT = {
    "start/0": ("COMPLETE", "done", 6),
    "baseline/0": ("PRUNED", "done", 1),
    "pose-1.5/0": ("PRUNED", "done", 1),
    "lr-0.02/0": ("COMPLETE", "done", 8),
    "lr-0.02/3": ("RUNNING", "paused", 1),
    "lr-0.02/4": ("RUNNING", "paused", 1),
    "lr-0.02/5": ("RUNNING", "paused", 1),
}


def reported(trials: dict[str, Any]) -> dict[str, tuple[str, str, int]]:
    return {name: (t["state"], t["phase"], t["epochs"]) for name, t in trials.items()}


def inspect(project: OldProject, exported: dict[str, Any]) -> dict[str, Any]:
    """Return what `checkpoint inspect` says of an export's weights and config."""
    files = [f"{exported['out']}/{exported[name]}" for name in ("weights", "config")]
    reported: dict[str, Any] = project.json(
        "checkpoint", "inspect", files[0], "--config", files[1]
    )
    return reported


# What is there is shown.


def test_status_tells_the_old_trials_as_they_were_left(old: OldProject) -> None:
    record = old.json("sweep", "status", "demo")
    assert reported(old.trials()) == LEFT
    best = record["best"]
    assert (best["variant"], best["number"], best["top1"], best["epoch"]) == (
        "lr-0.02",
        0,
        0.7375,
        7,
    )


def test_list_counts_the_old_trials(old: OldProject) -> None:
    sweeps = {one["sweep"]: one for one in old.json("sweep", "list")["sweeps"]}
    assert sweeps["demo"]["trials"] == {"COMPLETE": 2, "PRUNED": 2, "RUNNING": 3}
    assert [one["problem"] for one in sweeps.values()] == [None, None, None]


@pytest.mark.slow
@pytest.mark.sample
def test_the_old_winner_is_exported_and_its_weights_load(old: OldProject) -> None:
    fit = inspect(old, old.json("sweep", "best", "demo"))["fit"]
    folder = old.root / "exports" / "demo"
    record = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    weights, config = folder / "weights.pth", folder / "config.py"
    assert (record["variant"], record["number"], record["goal_reached"]) == ("lr-0.02", 0, True)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == record["sha256"]
    imported = set(re.findall(r'"(pipeline\.[\w.]+)"', config.read_text()))
    assert imported == {"pipeline.train.model", "pipeline.train.transforms"}
    assert (fit["would_load"], fit["matched_share"], fit["missing"]) == (True, 1.0, [])
    trained = old.folder("lr-0.02/0") / "checkpoints" / "epoch_7.pth"
    one, other = (torch.load(f, weights_only=True)["state_dict"] for f in (weights, trained))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# What was begun goes on.


def test_the_old_search_goes_on_where_it_was_paused(gone_on: GoneOn) -> None:
    text = gone_on.search.text
    assert gone_on.search.exit_code == 130, text
    assert f"{TRIALS} of them begun before" in text
    assert f"{PAUSED} starts on the CPU (attempt 2), going on after epoch 1" in text
    measured = gone_on.measured(PAUSED)
    assert measured[0] == gone_on.before[0], "what was measured stays"
    assert [(m["epoch"], m["attempt"]) for m in measured[:2]] == [(1, 1), (2, 2)]
    assert measured[1]["lr"] == pytest.approx(0.00136, rel=0.01), "the schedule goes on"


def test_the_old_searchs_rule_judges_the_old_trials(gone_on: GoneOn) -> None:
    trials = gone_on.trials()
    assert (trials["lr-0.02/3"]["state"], trials["lr-0.02/3"]["cause"]) == ("PRUNED", "ladder")
    assert "lr-0.02/3 pruned: epoch 1: best so far 12.5, rank 6 of 6" in gone_on.search.text
    done = {name: left for name, left in LEFT.items() if left[1] == "done"}
    assert {name: now for name, now in reported(trials).items() if name in done} == done


def test_no_old_trial_is_run_from_its_start_again(gone_on: GoneOn) -> None:
    for name, left in LEFT.items():
        epochs = [m["epoch"] for m in gone_on.measured(name)]
        assert epochs == sorted(set(epochs)) and len(epochs) >= left[2], name


@pytest.mark.slow
@pytest.mark.sample
def test_the_whole_old_search_runs_to_its_end(whole: OldProject) -> None:
    whole.done("data", "demo", "data/demo")
    words = ("sweep", "search", "demo", "--device", "cpu", "--wandb", "disabled")
    searched = whole.run(*words, "--trials", TRIALS)
    assert searched.returncode == 0, searched.stderr
    trials = whole.trials()
    assert all(one["phase"] == "done" for one in trials.values())
    for name in (PAUSED, "lr-0.02/5"):
        measured = whole.measured(name)
        assert [m["epoch"] for m in measured] == list(range(1, len(measured) + 1))
        # Nothing but weights and optimizer state that were really loaded reads like this.
        assert measured[1]["top1"] > 0.6, f"{name} went on from other weights"
    assert whole.json("sweep", "best", "demo", "--test")["measured_anew"].keys() == {"val"}


# What a job is.


def test_how_a_job_is_started_is_frozen(gone_on: GoneOn) -> None:
    found = {}
    for line, names in gone_on.search.processes.items():
        words = [plain(word, gone_on.root) for word in json.loads(line)]
        if PAUSED in words[-1]:
            found["torchrun" if "torch.distributed.run" in words else "rank"] = {
                "argv": words,
                "environment": sorted(names),
            }
    frozen.hold("job", found)


def plain(word: str, root: Path) -> str:
    """Take out of a word of a command line what differs from one start to the next."""
    word = word.replace(str(root), "PROJECT").replace(sys.executable, "PYTHON")
    word = re.sub(r"(?<=--rdzv_endpoint=).*(?=/)", "FOLDER", word)
    return re.sub(r"(?<=--rdzv_id=).*", "ID", word)


def test_what_notify_sends_is_frozen(gone_on: GoneOn) -> None:
    kinds = {event["event"] for event in gone_on.events}
    shapes = {kind: [e for e in gone_on.events if e["event"] == kind] for kind in kinds}
    frozen.hold_shapes("notify", {kind: frozen.shape(*all_) for kind, all_ in shapes.items()})


# What scripts read.

LOG = "runs/demo/lr-0.02/0"
#: Command -> what is typed after it; several answers are one shape.
ASKED: dict[str, tuple[str, ...]] = {
    "data check": ("demo --decode 1",),
    "diagnose": (f"{LOG} --plan demo --variant lr-0.02", "--trial baseline/0 --plan demo"),
    "doctor": ("demo --device cpu",),
    "gates lint": ("demo", "pcan_ntu60 --offline"),
    "gates replay": (f"demo {LOG} runs/demo/baseline/0",),
    "log": (f"{LOG} --plan demo --variant lr-0.02",),
    "sweep best": (f"demo --trial {PAUSED}",),
    "sweep classes": ("lr-0.02/0 --sweep demo --against baseline/0",),
    "sweep compare": ("demo",),
    "sweep list": ("",),
    "sweep plan": ("demo --search",),
    "sweep status": ("demo",),
    "sweep watch": ("demo",),
}
#: Those that were asked while the project was made, and of its export.
KEPT = ("checkpoint inspect", "sweep clean", "sweep sync")
#: Those whose keys another test holds, over trials that it trains anyway.
HELD_ELSEWHERE = (
    "sweep refine",
    "sweep brief",
    "sweep story",
    "sweep report",
    "sweep rerun",
    "compare-predictions",
    "skill",
)


@pytest.fixture(scope="module")
def answers(gone_on: GoneOn) -> dict[str, list[Any]]:
    """What every command with --json answers; `best` exports on the way."""
    # These first: others read what they keep, or must not see what they write.
    first = {"sweep plan": ASKED["sweep plan"], "sweep best": ASKED["sweep best"]}
    made = {
        name: [gone_on.json(*name.split(), *more.split()) for more in given]
        for name, given in {**first, **ASKED}.items()
    }
    inspected = inspect(gone_on, made["sweep best"][0])
    kept = ([inspected], [gone_on.losers], [gone_on.synced])
    return {**dict(zip(KEPT, kept, strict=True)), **made}


def test_keys_of_json_answers_are_frozen(answers: dict[str, list[Any]]) -> None:
    frozen.hold_shapes("json", {name: frozen.shape(*each) for name, each in answers.items()})


def test_every_command_with_json_was_asked() -> None:
    able = {
        path.removeprefix("pcan ")
        for path, command in commands(root_command()).items()
        if any("--json" in param.opts for param in command.params)
    }
    assert able == ASKED.keys() | {*KEPT, *HELD_ELSEWHERE}


def test_compare_draws_the_old_curves(gone_on: GoneOn, answers: dict[str, list[Any]]) -> None:
    file = gone_on.done("sweep", "compare", "demo").strip()
    page = (gone_on.root / file).read_text(encoding="utf-8")
    data = re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.S)
    assert data is not None
    drawn = json.loads(data.group(1))
    assert {one["id"] for one in drawn["trials"]} >= LEFT.keys()
    answer = {**answers["sweep compare"][0], "made": None}
    assert six_digits({**drawn, "made": None}) == six_digits(answer)


def six_digits(value: Any) -> Any:
    """Return values with the digits that the page keeps of a curve."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: six_digits(one) for key, one in value.items()}
    return [six_digits(one) for one in value] if isinstance(value, list) else value


def test_the_old_project_answers_with_the_same_keys(old: OldProject) -> None:
    for name in ("sweep status", "sweep watch"):
        frozen.within("json", name, frozen.shape(old.json(*name.split(), "demo")))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "sweep list"),
        (2, "sweep status nosuch"),
        (2, "sweep status --nosuch"),
        (3, "sweep best pcan_ntu60"),
        (4, "sweep status demo --storage sqlite:///nowhere/pcan.db"),
        (5, "data check pcan_ntu60"),
    ],
)
def test_exit_codes_are_as_documented(old: OldProject, code: int, words: str) -> None:
    assert old.run(*words.split()).returncode == code


# What lies on the disk.


def lines_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def head_of(file: Path) -> dict[str, Any]:
    """Return what a file of predictions tells before its packed columns."""
    magic, line, _ = file.read_bytes().split(b"\n", 2)
    return {"magic": {magic.decode().replace(" ", "_"): True}, **json.loads(line)}


def content_of(file: Path) -> dict[str, Any]:
    """Return a checkpoint without the names that come from the model and the framework."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    framework = ("state_dict", "optimizer", "param_schedulers")
    return {
        **content,
        **{key: None for key in framework if key in content},
        "ranks": [
            {**one, "random": dict.fromkeys(one["random"]), "buffers": None}
            for one in content["ranks"]
        ],
    }


def read(file: Path) -> Iterable[Any]:
    if file.suffix == ".json":
        return [json.loads(file.read_text(encoding="utf-8"))]
    if file.suffix == ".jsonl":
        return lines_of(file)
    if file.suffix == ".bin":
        return [head_of(file)]
    return [content_of(file)] if file.suffix == ".pth" else []


def files_below(folder: Path) -> dict[str, frozen.Shape]:
    """Return the kinds of files below `runs/SWEEP` or an export, each with its keys."""
    records: dict[str, list[Any]] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        name = re.sub(r"^[^/]+/\d+/", "TRIAL/", name)
        if re.match(r"TRIAL/(mmengine|wandb/offline-run.*?)/", name):
            name = (
                "/".join(name.split("/")[:2]) + "/"
            )  # what is below is the framework's, or W&B's
        elif file.is_dir():
            continue
        name = re.sub(r"(?<=epoch_)\d+|(?<=scores_)\d+|(?<=rank)\d+", "N", name)
        records.setdefault(name, [])
        if not name.endswith("/"):
            records[name] += read(file)
    return {name: frozen.shape(*each) for name, each in records.items()}


def test_files_of_runs_are_frozen(gone_on: GoneOn, answers: dict[str, list[Any]]) -> None:
    frozen.hold_shapes("runs", files_below(gone_on.root / "runs" / "demo"))


def test_the_old_runs_have_the_same_files_and_keys(old: OldProject) -> None:
    for name, shape in files_below(old.root / "runs" / "demo").items():
        if name != "compare.html":
            frozen.within("runs", name, shape)


def test_files_of_an_export_are_frozen(gone_on: GoneOn, answers: dict[str, list[Any]]) -> None:
    folder = gone_on.root / "exports" / "demo"
    names = sorted(file.name for file in folder.iterdir())
    record = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    weights = torch.load(folder / "weights.pth", weights_only=True)
    frozen.hold_shapes(
        "export",
        {
            "files": dict.fromkeys(names, "file"),
            "best.json": frozen.shape(record),
            "weights.pth": dict.fromkeys(weights, "object"),
        },
    )


#: Files that no test here makes; a name that stood in the source has to stand there.
UNSEEN = (
    *("stop.json", "launch.log", "compare.html", "wandb_workspace.json", "pcan.db"),
    *("pcan_sync.json", "pcan_sent.json", "tracker.log", "manifest.json"),
    "labels.jsonl",
)


def test_names_of_rarer_files_still_stand_in_the_source(root: Path) -> None:
    text = "".join(file.read_text() for file in sorted((root / "pipeline").rglob("*.py")))
    assert [name for name in UNSEEN if name not in text] == []


# What the database holds.


def columns(database: Path) -> dict[str, str]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute("PRAGMA table_info(pcan_trials)").fetchall()
    connection.close()
    return {
        name: kind + (" NOT NULL" if required else "") + (" PRIMARY KEY" if key else "")
        for _, name, kind, required, _, key in rows
    }


def asked_of(database: Path, question: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def test_columns_of_pcan_trials_are_frozen(gone_on: GoneOn, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    gone_on.done("sweep", "register", "demo", "--storage", f"sqlite:///{fresh}")
    assert columns(fresh) == columns(gone_on.root / "runs" / "pcan.db")
    frozen.hold("pcan_trials", columns(fresh))


def test_what_optuna_is_told_is_frozen(gone_on: GoneOn) -> None:
    database = gone_on.root / "runs" / "pcan.db"
    studies = [name for (name,) in asked_of(database, "SELECT study_name FROM studies")]
    shapes = {"studies": dict.fromkeys(studies, "study")}
    for table in (
        *("study_user_attributes", "study_system_attributes"),
        *("trial_user_attributes", "trial_system_attributes"),
    ):
        values: dict[str, list[Any]] = {}
        for key, text in asked_of(database, f"SELECT key, value_json FROM {table}"):
            values.setdefault(key, []).append(json.loads(text))
        for key, each in values.items():
            shapes[f"{table}: {key}"] = frozen.shape(*each)
    frozen.hold_shapes("optuna", shapes)
