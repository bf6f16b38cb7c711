"""A refinement over trained trials: held to weights averaged by hand, resumed, refused."""

import json

import numpy as np
import pytest

import tiny_run
from pipeline.errors import InputError
from pipeline.refine.held_out import read_test, refuse_second
from pipeline.refine.refinement import read_table, refine
from pipeline.refine.text import table_lines
from pipeline.report.stats.kept_scores import unpack
from pipeline.shared.rundir import RunDir

#: Averages the checkpoints of several files by hand; batch norm's statistics by a plain pass over
#: the clips that the reading takes. Prints the largest difference to the mean that was kept.
BY_HAND = """\
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from pathlib import Path
from pipeline.train.score_reader import ScoreReader
from pipeline.train.batch_statistics import _batches
folder, kept, *files = sys.argv[1:]
states = [torch.load(f, weights_only=True)["state_dict"] for f in files]
reader = ScoreReader(Path(folder))
model = reader.model
names = [n for n, _ in model.named_parameters()]
mean = {n: sum(s[n].double() for s in states) / len(states) for n in names}
model.load_state_dict({**states[0], **{n: t.float() for n, t in mean.items()}})
norm = model.trunk[1]
seen = []
norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().double()))
model.eval()
with torch.no_grad():
    for batch in _batches(reader._runner, int(reader._runner.seed)):
        model._run_forward(model.data_preprocessor(batch, True), mode="loss")
for name in kept.split(","):
    found = torch.load(name, weights_only=True)["state_dict"]
    of = "trunk.1.running_"
    print(json.dumps({
        "weights": max(float((found[n].double() - mean[n]).abs().max()) for n in names),
        "mean": float((found[of + "mean"] - sum(x.mean(0) for x in seen) / len(seen)).abs().max()),
        "var": float((found[of + "var"] - sum(x.var(0) for x in seen) / len(seen)).abs().max()),
    }))
"""


@pytest.fixture(scope="module")
def table(trained):
    return refine(trained.request("a", "b", "wide", "elsewhere", "cold"))


def by_name(table):
    return {line["name"]: line for line in table["lines"] if line["ratio"] is None}


def test_the_lines_that_can_be_read_are_there_and_the_others_say_why(table):
    assert set(by_name(table)) == {"plain", "last_k", "trial_mean", "soup", "ensemble"}
    reasons = {one["name"]: one["reason"] for one in table["unavailable"]}
    assert "samples frames in test mode" in reasons["clips"]
    assert "training mirrors no clip" in reasons["flip"]
    assert by_name(table)["plain"]["difference"] == 0
    assert any("crosswise" in line for line in table_lines(table))


#: What scripts read; keys are added, never renamed.
KEYS = {
    *("schema", "sweep", "trial", "epoch", "measured", "clips", "cut_by", "tried", "lines"),
    *("chosen", "chosen_line", "best_line", "selection", "better", "test", "unavailable"),
    *("left_out", "made"),
}
READ = {"top1", "std_error", "difference", "difference_std_error", "p"}
LINE = READ | {
    *("name", "ratio", "fitted", "passes", "one_model", "tried", "detail", "recipe"),
    "p_adjusted",
}


def test_its_keys_are_frozen(table):
    assert set(table) == KEYS and set(table["selection"]) == READ
    assert all(set(line) == LINE for line in table["lines"])


def test_trials_that_no_mean_is_made_of_are_refused_with_the_reason(table):
    reasons = {one["trial"]: one["reason"] for one in table["left_out"] if one["line"] == "soup"}
    assert reasons["cold/0"] == "it began with other weights (random ones)"
    assert "other names or shapes" in reasons["wide/0"]
    assert "trained on other data" in reasons["elsewhere/0"]
    soup = by_name(table)["soup"]["recipe"]["readings"][0]["weights"]
    assert {one["trial"] for one in soup} <= {"a/0", "b/0"}


def test_an_ensemble_is_the_mean_of_kept_scores(trained, table):
    reading = by_name(table)["ensemble"]["recipe"]["readings"]
    found = []
    for one in reading:
        weights = one["weights"][0]
        run = trained.run(weights["trial"].split("/")[0])
        found.append(unpack(run.scores_of(weights["epoch"]).read_bytes()))
    mean = np.mean([s.branches["rgb"] + s.branches["pose"] for s in found], axis=0)
    expected = (mean.argmax(axis=1) == found[0].labels).mean()
    assert by_name(table)["ensemble"]["fitted"] == pytest.approx(expected)


def test_a_kept_mean_is_that_by_hand_with_statistics_of_a_plain_pass(trained, table, tmp_path):
    run = trained.run("a")
    epochs = [one["epoch"] for one in by_name(table)["last_k"]["recipe"]["readings"][0]["weights"]]
    files = [str(run.checkpoints / f"epoch_{epoch}.pth") for epoch in epochs]
    kept = ",".join(map(str, sorted(run.refine.glob("mean-*.pth"))))
    log = tmp_path / "log"
    code = tiny_run.run_code(BY_HAND, run.root, kept, *files, log=log)
    assert code == 0, log.read_text()[-2000:]
    lines = [line for line in log.read_text().splitlines() if line.startswith('{"weights"')]
    differences = [json.loads(line) for line in lines]
    closest = min(differences, key=lambda one: one["weights"])
    assert closest["weights"] < 1e-6 and closest["mean"] < 1e-4 and closest["var"] < 1e-4


def test_a_second_call_reads_nothing_again(trained, table):
    again = refine(trained.request("a", "b", "wide", "elsewhere", "cold"))
    assert again.pop("made") == 0 and table["made"] > 0
    assert again == {key: value for key, value in table.items() if key != "made"}
    assert read_table(trained.project, trained.rows[0], "tiny")["lines"] == again["lines"]


class Stopped(Exception):
    pass


def test_a_call_that_is_killed_goes_on_where_it_was(trained):
    """The process that reads is killed while it works; what it had read is not read again."""
    calls = []

    def stop(done, total):
        calls.append(done)
        raise Stopped

    with pytest.raises(Stopped):
        refine(trained.request("b", "a", progress=stop))
    before = {file.name: file.stat().st_mtime_ns for file in trained.run("b").refine.glob("*-*")}
    table = refine(trained.request("b", "a"))
    assert calls and before
    whole = [name for name in before if not name.endswith(".part")]
    for name in whole:
        assert (trained.run("b").refine / name).stat().st_mtime_ns == before[name]
    assert not list(trained.run("b").refine.glob("*.part"))
    # Killed after the scores were kept: their part is left, and removed by the next call.
    (kept, *_) = trained.run("b").refine.glob("scores-*.bin")
    RunDir.part_of(kept).write_bytes(b"{}\n")
    refine(trained.request("b", "a"))
    assert not list(trained.run("b").refine.glob("*.part"))
    assert {line["name"] for line in table["lines"]} >= {"plain", "soup"}


def test_the_test_split_is_read_once(trained):
    run = trained.run("a")
    (run.refine / "test.json").write_text(
        json.dumps({"readings": [{"time": "today", "by": "anna", "host": "x", "reading": 1}]})
    )
    with pytest.raises(InputError, match=r"read before \(today by anna on x\).*--again"):
        refuse_second(run, again=False)
    refuse_second(run, again=True)
    (run.refine / "test.json").unlink()


def test_a_test_split_that_is_the_validation_is_refused(trained, table):
    with pytest.raises(InputError, match="reads the validation clips"):
        read_test(trained.request("a"), table)
