"""The sweep file: what is read, and how each mistake is answered."""

from pathlib import Path

import pytest

from pipeline.errors import InputError, SweepFileError
from pipeline.plan.project import Project
from pipeline.plan.read import read_sweep
from pipeline.plan.sweep import Sweep

TEXT = """\
name: tiny
config: configs/tiny.py
objective: {metric: acc/top1, goal: 0.9, best_known: 0.8}
gates:
  - {epoch: 1, floor: 0.5}
  - {epoch: 3, floor: best_known}
variants:
  baseline:
    set: {optim_wrapper.optimizer.lr: 3e-3, train_cfg.max_epochs: 4}
    space: {optim_wrapper.optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}
  slower: {plan: B, like: baseline, set: {optim_wrapper.optimizer.lr: 1e-5}, space: {}}
ladder: {start: baseline, after: [{epoch: 1, below: 0.5, next: [slower]}]}
"""


def read(tmp_path: Path, text: str) -> Sweep:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return read_sweep(file, tmp_path)


def error(tmp_path: Path, old: str, new: str) -> str:
    assert old in TEXT
    with pytest.raises(SweepFileError) as caught:
        read(tmp_path, TEXT.replace(old, new, 1))
    return str(caught.value)


def test_1e_5_is_a_number(tmp_path: Path) -> None:
    sweep = read(tmp_path, TEXT)
    assert sweep.variants["slower"].set["optim_wrapper.optimizer.lr"] == 1e-5


def test_a_fallback_changes_only_what_it_names(plan: Sweep) -> None:
    baseline, a, b = (plan.variants[n] for n in ("baseline", "pose-1.5", "lr-0.001"))
    for variant, path in ((a, "model.cls_head.loss_weights"), (b, "optim_wrapper.optimizer.lr")):
        changed = {k for k in variant.set if variant.set[k] != baseline.set.get(k)}
        assert changed == {path} == set(variant.named)
        assert (variant.gates, variant.bands, variant.patience, variant.warm_start) == (
            baseline.gates,
            baseline.bands,
            baseline.patience,
            baseline.warm_start,
        )


def test_the_shipped_plan_holds_the_plans_numbers(plan: Sweep) -> None:
    baseline = plan.variants["baseline"]
    assert baseline.set["optim_wrapper.optimizer.lr"] == 0.003
    assert baseline.set["model.cls_head.loss_weights"] == [1.0, 2.0, 0.5, 0.8]
    assert plan.variants["pose-1.5"].set["model.cls_head.loss_weights"] == [1.0, 1.5, 0.5, 0.8]
    assert plan.variants["lr-0.001"].set["optim_wrapper.optimizer.lr"] == 0.001
    assert (baseline.epochs, plan.variants["scratch"].epochs) == (30, 50)
    assert [(g.epoch, g.floor, g.target) for g in baseline.gates] == [
        (1, 0.88, 0.885),
        (5, None, 0.895),
        (10, 0.8919, 0.9),
    ]
    assert (plan.objective.goal, plan.objective.best_known) == (0.91, 0.8919)


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ("goal: 0.9,", "gaol: 0.9,", 's.yaml:3: unknown key "gaol" in objective (did you mean'),
        ("floor: 0.5}", "floor: 88.5}", "s.yaml:5: gates.0.floor: 88.5 is above 1"),
        ("floor: 0.5}", "floor: 88.5}", "write 0.885"),
        ("epoch: 3,", "epoch: 9,", "a gate at epoch 9, but baseline has 4 epochs"),
        ("goal: 0.9,", 'goal: "0.9",', 's.yaml:3: objective.goal is "0.9"; it must be a number.'),
        ("like: baseline", "like: basline", 'there is no variant "basline"; the file has: '),
        ("like: baseline", "like: slower", "`like` goes round: slower -> slower"),
        ("name: tiny", "name: ../../x", "is not a name: letters, digits, . _ -"),
        ("name: tiny", "name: tiny\nname: other", 's.yaml:2: duplicate key "name", first given'),
        ("start: baseline", "start: none", 's.yaml:12: there is no variant "none"'),
        ("low: 1e-4", "low: 5e-3", "outside the searched range"),
        ("low: 1e-4", "low: 1", "low 1 is not below high 0.01"),
        ("config: configs/tiny.py\n", "", 'the file has no "config"'),
        ("best_known: 0.8}", "}", "floor is best_known, but objective.best_known is not given"),
        ("below: 0.5", "below: 50", "write 0.5"),
        ("ladder: {", "ladder: [", "s.yaml:12:"),
        ("plan: B", "plan: !!python/object/apply:os.system [x]", "s.yaml:11: "),
        ("plan: B", "plan: &a B", ""),
        ("epoch: 1, floor: 0.5", "epoch: 1.5, floor: 0.5", "must be a whole number"),
        ("epoch: 1, floor: 0.5", "epoch: 1", "a gate needs a floor, a target or improve_on"),
        ("epoch: 3, floor", "epoch: 1, floor", "one gate an epoch, in order"),
        ("  slower:", "  Baseline: {}\n  slower:", "differ in case only"),
        ("max_epochs: 4", "max_epochs: 0", "is 0; write a whole number from 1 to 100000"),
        (
            "max_epochs: 4",
            "max_epochs: 1000000000000",
            "s.yaml:9: train_cfg.max_epochs of baseline",
        ),
        ("max_epochs: 4", "max_epochs: '4'", "is '4'; write a whole number"),
        ("max_epochs: 4", "max_epochs: true", "is True; write a whole number"),
        ("max_epochs: 4", "max_epochs: 1__0", "is '1__0'; write a whole number"),
        ("max_epochs: 4", "max_epochs: " + "9" * 5000, "write a whole number"),
        (
            "config: c",
            "config：c",
            's.yaml:2: "config：configs/tiny.py" is no "key: value"; write',
        ),
        ("config: c", "config:c", 's.yaml:2: "config:configs/tiny.py" is no "key: value"; write'),
        (
            "plan: B",
            "\u00a0plan: B",
            'holds a character that only looks like a plain one; write "plan"',
        ),
        (
            "gates:",
            "on: slurm\ngates:",
            'unknown key "on"; it belongs to another part of the file',
        ),
        ("plan: B", 'plan: "a\\e[2Jb"', "s.yaml:11: a text holds a control character"),
        ("name: tiny", 'name: "a\\0b"', "s.yaml:1: a text holds a control character"),
        (
            "gates:",
            "job: {retry: {lost_wroker: 2}}\ngates:",
            '"lost_wroker" is not retried; these',
        ),
        (
            "gates:",
            "job: {retry: {oom_cuda: 2}}\ngates:",
            "these may be: lost_worker, port, stall",
        ),
        ("epoch: 1, below: 0.5", "cause: nann", 'no trial ends with "nann"; the causes are: gate'),
    ],
)
def test_each_mistake_is_reported_with_its_place(
    tmp_path: Path, old: str, new: str, reported: str
) -> None:
    if new.endswith("&a B"):
        assert read(tmp_path, TEXT.replace(old, new)).variants["slower"].plan == "B"
        return
    assert reported in error(tmp_path, old, new)


def test_a_gate_without_a_known_best_names_the_gate_that_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(SweepFileError, match=r"s\.yaml:6: gates\.1\.floor: floor is best_known"):
        read(tmp_path, TEXT.replace(", best_known: 0.8", ""))


@pytest.mark.parametrize("key", ["floor_is_best_known: true", "named: {}"])
def test_what_is_resolved_from_the_file_is_not_a_key_of_it(tmp_path: Path, key: str) -> None:
    place = "epoch: 3, " if "floor" in key else "plan: B, "
    assert 'unknown key "' in error(tmp_path, place, f"{place}{key}, ")


def test_a_variant_takes_what_it_leaves_out_from_another_or_the_top(tmp_path: Path) -> None:
    text = TEXT.replace("gates:", "patience: {epochs: 3, min_delta: 0.1}\ngates:", 1)
    text = text.replace(
        "slower: {", "none: {like: baseline, patience: null, seed: 7}\n  slower: {"
    )
    text += "  \n"
    sweep = read(tmp_path, text)
    slower, none = sweep.variants["slower"], sweep.variants["none"]
    assert slower.patience is not None
    assert slower.patience == sweep.variants["baseline"].patience
    assert (none.patience, none.seed, slower.seed) == (None, 7, 0)
    assert none.space == sweep.variants["baseline"].space and slower.space == {}
    assert none.gates == sweep.gates and none.gates[1].floor_is_best_known


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    error(tmp_path, "plan: B", f"plan: !!python/object/apply:os.system ['touch {canary}']")
    assert not canary.exists()


def test_text_that_yaml_11_turns_into_something_else_stays_text(tmp_path: Path) -> None:
    sweep = read(tmp_path, TEXT.replace("plan: B", "plan: no"))
    assert sweep.variants["slower"].plan == "no"


@pytest.mark.parametrize(
    ("raw", "reported"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe\x00x", "not UTF-8 text"),
        (b"[" * 500, "nested deeper|s.yaml:1"),
        (b"[" * 5000 + b"]" * 5000, "nested deeper"),
        (b"- a\n- b\n", "a sweep file is a mapping"),
        (b"name: a\n---\nname: b\n", r"s.yaml:2:1: a second document begins \(---\)"),
        (b"a: " + b"x" * 1_100_000, "more than a sweep file may have"),
    ],
)
def test_what_is_no_sweep_file_at_all(tmp_path: Path, raw: bytes, reported: str) -> None:
    (tmp_path / "s.yaml").write_bytes(raw)
    with pytest.raises(SweepFileError, match=reported):
        read_sweep(tmp_path / "s.yaml", tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SweepFileError, match=r"nope\.yaml: no such file"):
        read_sweep(tmp_path / "nope.yaml", tmp_path)


def test_a_sweep_file_may_end_in_yml_and_one_in_yaml_comes_first(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "sweeps").mkdir()
    for name in ("a.yml", "b.yml", "b.yaml"):
        (tmp_path / "sweeps" / name).write_text("name: x\n")
    assert project.sweep_file("a").name == "a.yml" and project.sweep_file("b").name == "b.yaml"
    with pytest.raises(InputError, match="there are: a, b"):
        project.sweep_file(None)
