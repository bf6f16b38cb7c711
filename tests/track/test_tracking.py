"""wandb.yaml is a sweep file W&B accepts, and where pcan reads project, entity and metric."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import InputError
from pipeline.plan.read import read_sweep
from pipeline.track.run_payload import WandbTarget
from pipeline.track.tracking import SWEEP_KEYS, Metric, agent_run, read_project

ROOT = Path(__file__).parents[2]
FILE = ROOT / "wandb.yaml"
#: Keys inside a metric and a parameter, from the same published schema.
METRIC_KEYS = {"name", "goal", "target", "impute", "impute_while_running"}
METHODS = {"grid", "random", "bayes", "custom"}


@pytest.fixture
def shipped():
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_has_only_keys_of_the_published_schema(shipped):
    assert set(shipped) <= SWEEP_KEYS
    assert set(shipped["metric"]) <= METRIC_KEYS
    assert shipped["method"] in METHODS
    assert {"name", "program", "command", "run_cap", "parameters"} <= set(shipped)


def test_its_target_and_variants_are_those_of_the_plan(shipped):
    plan = read_sweep(ROOT / "sweeps" / "pcan_ntu60.yaml", ROOT)
    assert shipped["metric"]["target"] == plan.objective.goal
    offered = shipped["parameters"]["variant"]["values"]
    assert set(offered) == {name for name, v in plan.variants.items() if v.in_ladder}
    assert shipped["run_cap"] == len(offered)


def test_an_agent_calls_pcan_train_for_one_variant(shipped):
    """What `wandb agent` makes of `command` for the parameter variant=pose-1.5."""
    replaced = {"${program}": [shipped["program"]], "${args}": ["--variant=pose-1.5"]}
    words = [word for part in shipped["command"] for word in replaced.get(part, [part])]
    assert words == ["pcan", "train", "pcan_ntu60", "--variant=pose-1.5"]


def test_reads_project_and_metric():
    target, metric = read_project(FILE)
    assert target == WandbTarget(project="pcan", entity=None)
    assert metric == Metric(name="val/best_top1", goal="maximize", target=0.91)


def test_without_the_file_nothing_is_set(tmp_path):
    assert read_project(tmp_path / "wandb.yaml") == (WandbTarget(), None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("project: ../x", "which W&B does not accept as a name"),
        ('project: "a\\0b"', "which W&B does not accept as a name"),
        ("entity: " + "x" * 200, "up to 128 characters"),
        ("metric: {name: a, target: soon}", "metric.target is 'soon', not a number"),
        ("[" * 3000, "nested too deeply|cannot be read"),
        ("gates: []\nmethod: grid", 'the key "gates"'),
        ("- 1", "not a mapping"),
        ("project: 3", "not a name"),
        ("metric: top1", "needs a name"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_says_what_is_wrong(tmp_path, text, words):
    file = tmp_path / "wandb.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_project(file)


def test_under_an_agent_its_run_is_taken_up():
    given = {"WANDB_SWEEP_ID": "lab/pcan/s1", "WANDB_RUN_ID": "r1", "WANDB_PROJECT": "pcan"}
    assert agent_run(given).spec("demo") == {
        "id": "r1",
        "project": "pcan",
        "entity": None,
        "group": "demo",
        "sweep": "s1",
    }


def test_without_an_agent_there_is_none():
    assert agent_run({}) is None
    assert agent_run({"WANDB_RUN_ID": "left over"}) is None
