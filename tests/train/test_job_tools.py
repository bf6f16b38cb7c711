"""The tools that answer the control side: resolve, schedule, export."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import tiny_run
from pipeline.train.config_file import load
from pipeline.train.config_text import to_text
from pipeline.train.override import apply, changes, nearest
from pipeline.train.tools.resolve_config import facts, resolve, validated
from pipeline.train.tools.schedule import StepError, dummy_optimizer, schedule
from pipeline.train.tools.tool import ToolError

#: torch, imported through mmengine, warns of its own parts.
of_torch = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TINY = str(tiny_run.JOBS / "tiny.py")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def test_resolved_config_changes_only_what_it_names():
    overrides = {"model.loss_weights.1": 1.5, "train_cfg.max_epochs": 2}
    code, answer = tiny_run.ask(
        "resolve_config", {"config": TINY, "sets": [{"name": "a", "overrides": overrides}]}
    )
    assert code == 0 and TINY in answer["sources"]["files"]
    (result,) = answer["results"]
    assert result["changes"] == [
        {"path": "model.loss_weights.1", "old": 2.0, "new": 1.5},
        {"path": "train_cfg.max_epochs", "old": 4, "new": 2},
    ]
    assert (answer["base"]["max_epochs"], result["facts"]["max_epochs"]) == (4, 2)
    assert result["facts"]["val_epochs"] == [1, 2]


def test_resolved_text_is_read_back_by_mmengine_to_the_same(folder):
    write(folder, base="a = dict(x=1, y=[1, (2,)])\nold = 3\n")
    text = (
        '_base_ = ["base.py"]\na = dict(x=5)\nb = {{_base_.old}}\nc = "{{fileBasename}}"\n'
        'd = {1: None, "a.b": float("-inf"), "class": True}\ne = "{" "{ left }}" + chr(39)\n'
        "f = dict(_delete_=True, z=1e-5)\nlong = list(range(60))\n"
    )
    write(folder, child=text)
    config, files = load("child.py")
    assert [Path(f).name for f in files] == ["child.py", "base.py"]
    write(folder, out=to_text(config, "child.py"))
    assert Config.fromfile("out.py").to_dict() == config
    assert list(Config.fromfile("out.py").to_dict()) == list(config), "the order is kept"
    assert config["c"] == "child.py" and "_base_" not in (folder / "out.py").read_text()
    assert max(map(len, (folder / "out.py").read_text().splitlines())) < 200


def test_a_config_that_imports_a_module_of_python_is_executed(folder):
    write(folder, base="a = 1\n")
    write(folder, own="import os\n_base_ = ['base.py']\nb = os.path.join('x', 'y')\n")
    assert load("own.py")[0] == {"a": 1, "b": "x/y"}


def test_a_base_of_an_installed_package_is_found_or_the_package_named(folder):
    write(folder, own="_base_ = ['mmaction::_base_/default_runtime.py']\n")
    config, files = load("own.py")
    assert config["default_scope"] == "mmaction" and files[1].endswith("_base_/default_runtime.py")
    write(folder, other="_base_ = ['mmpose::_base_/default_runtime.py']\n")
    with pytest.raises(ToolError, match=r"a config of mmpose, which .* does not have. Install it"):
        load("other.py")


def test_a_config_that_is_its_own_base_is_named_with_the_way_to_it(folder):
    write(folder, own="_base_ = 'own.py'\n")
    write(folder, b="_base_ = 'c.py'\n", c="_base_ = 'b.py'\n")
    with pytest.raises(ToolError, match=r"its own base: \S*own.py -> \S*own.py\. Take"):
        load(str(folder / "own.py"))
    write(folder, top="_base_ = 'b.py'\n")
    with pytest.raises(ToolError, match=r"its own base: \S*b.py -> \S*c.py -> \S*b.py\. Take"):
        load(str(folder / "top.py"))


def test_a_name_that_only_a_base_sets_is_reached_through_it(folder):
    write(folder, base="steps = [dict(type='A')]\n")
    write(folder, own="_base_ = ['base.py']\nsteps[0]['type'] = 'B'\n")
    with pytest.raises(ToolError, match=r"own.py:2: .*base.py sets it, .* as _base_.steps"):
        load("own.py")


def test_numbers_of_numpy_and_texts_of_enums_are_written_as_pythons(folder):
    text = "_base_ = []\nimport enum\nimport numpy as np\n"
    text += "class Kind(str, enum.Enum):\n    SGD = 'sgd'\n"
    text += "lr = np.float64(0.1)\nsteps = [np.int64(3), np.float32('inf'), np.bool_(True)]\n"
    text += "name = np.str_('a')\nkind = Kind.SGD\ndel Kind\n"
    write(folder, own=text)
    write(folder, out=to_text(load("own.py")[0], "own.py"))
    written = Config.fromfile("out.py").to_dict()
    assert written == {"lr": 0.1, "steps": [3, math.inf, True], "name": "a", "kind": "sgd"}
    assert [type(value) for value in written["steps"]] == [int, float, bool]


def test_import_style_is_resolved_without_importing(folder):
    write(folder, base="lr = 0.1\n")
    write(
        folder,
        child="from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
        "from no_such_package import Net\nmodel = dict(type=Net, lr=lr)\n",
    )
    config, files = load("child.py")
    assert config["model"] == {"type": "no_such_package.Net", "lr": 0.1}
    assert [Path(f).name for f in files] == ["child.py", "base.py"]


BAD = {
    "x = (1\n": "bad.py:1: ",
    '_base_ = ["gone.py"]\n': "bad.py is based on gone.py, which does not exist.",
    "import numpy as np\nx = np.arange(3)\n": "bad.py:2 mixes the styles of configs",
    'import torch\n_base_ = ["one.py"]\n': "mixes the styles of configs",
    '_base_ = ["one.py", "two.py"]\n': "Duplicate key is not allowed among bases",
    'k = "{{$WANDB_API_KEY:}}"\n': "takes WANDB_API_KEY from the environment",
    "raise ValueError('boo')\n": "bad.py:1: ValueError: boo",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_config_is_named_with_its_line(text, folder):
    write(folder, bad=text, one="a = 1\n", two="a = 2\n")
    code, answer = tiny_run.ask("resolve_config", {"config": "bad.py"}, cwd=folder)
    assert code == 2 and BAD[text] in answer["error"], answer


@pytest.mark.parametrize(
    ("raw", "reported"),
    [
        (b"", "bad.py is empty: it sets nothing"),
        (b"# nothing\n", "bad.py is empty: it sets nothing"),
        ("\ufeffa = 1\n".encode(), "bad.py begins with a byte order mark"),
        ("a = 1\n# 中文\n".encode("gbk"), "bad.py:2: not UTF-8 text. Save it as UTF-8."),
        (
            b"data = dict(videos_per_gpu=8)\nlr_config = dict(policy='step')\ntotal_epochs = 9\n",
            "bad.py is a config of MMAction2 0.x (data, lr_config, total_epochs)",
        ),
    ],
)
def test_a_file_that_is_no_config_of_today_is_named_for_what_it_is(folder, raw, reported):
    Path("bad.py").write_bytes(raw)
    with pytest.raises(ToolError, match=re.escape(reported)):
        load("bad.py")


@of_torch
def test_a_schedule_that_fails_on_its_way_refuses_that_config_alone():
    warm_up = {"type": "LinearLR", "start_factor": 0.0, "by_epoch": True, "begin": 0, "end": 2}
    with pytest.raises(StepError, match="LinearLR cannot be stepped: .*a start_factor above 0"):
        schedule({"config": config_with(0.01, 3, warm_up)})


@pytest.mark.parametrize("lr", ["1e-4", [0.1, 0.2]])
def test_a_rate_of_another_type_is_not_called_missing(lr):
    with pytest.raises(ToolError, match=re.escape(f"lr is {lr!r}; write one number")):
        dummy_optimizer({"optim_wrapper": {"optimizer": {"lr": lr}}}, 1)


def test_value_without_a_text_form_is_refused_by_its_path(folder):
    write(folder, bad="_base_ = []\nimport fractions\nm = dict(k=[fractions.Fraction(1, 2)])\n")
    with pytest.raises(ToolError, match=r"bad.py: m.k.0 is Fraction\(1, 2\) \(Fraction\)"):
        resolve({"config": "bad.py", "sets": [{"name": "a"}]})


def test_path_that_the_base_lacks_is_missing_and_nothing_is_added():
    base = {"model": {"head": {"weights": (1.0, 2.0)}}, "lr": 1}
    config = {"model": {"head": {"weights": (1.0, 2.0)}}, "lr": 1}
    wrong = {"model.head.wieghts.1": 3, "model.head.weights.2": 3, "model.neck": {}, "lr.x": 1}
    assert apply(config, wrong) == list(wrong)
    assert config == base
    assert nearest(base, "model.head.wieghts.1") == "model.head.weights.1"


def test_whole_value_goes_before_its_part():
    config = {"s": [{"a": 1}], "t": (1, 2)}
    assert apply(config, {"s.1.a": 7, "s": [{"a": 2}, {"a": 3}], "t.0": 9}) == []
    assert config == {"s": [{"a": 2}, {"a": 7}], "t": (9, 2)}


def test_a_list_replaces_a_tuple_as_a_tuple():
    config = {"scale": (-1, 256), "steps": [1]}
    assert apply(config, {"scale": [-1, 64], "steps": [2]}) == []
    assert config == {"scale": (-1, 64), "steps": [2]}


def test_changes_are_as_deep_as_the_shapes_agree():
    old = {"w": [1, 2], "s": [{"a": 1}], "flag": 1, "same": {"x": 1}}
    new = {"w": [1, 3], "s": [{"b": 1}], "flag": True, "same": {"x": 1}}
    assert changes(old, new) == [
        {"path": "w.1", "old": 2, "new": 3},
        {"path": "s.0", "old": {"a": 1}, "new": {"b": 1}},
        {"path": "flag", "old": 1, "new": True},
    ]


@pytest.mark.parametrize(
    ("loop", "epochs"),
    [
        ({"max_epochs": 5, "val_interval": 2}, [2, 4, 5]),
        ({"max_epochs": 5, "val_begin": 4}, [4, 5]),
        ({"max_epochs": 6, "val_interval": 3, "dynamic_intervals": [(5, 1)]}, [3, 4, 5, 6]),
        ({"max_epochs": 4, "val_begin": 5}, []),
        ({"max_epochs": 4, "val_interval": 0}, []),
        ({"max_epochs": 4, "val_interval": "1"}, []),
        ({"max_iters": 100}, None),
    ],
)
def test_validated_epochs_follow_mmengine(loop, epochs):
    assert validated(loop) == epochs


def test_facts_of_a_config_that_says_little():
    assert facts({})["max_epochs"] is None and facts({})["has_validation"] is False


def config_with(lr, epochs, *schedulers):
    config = {
        "train_cfg": {"by_epoch": True, "max_epochs": epochs},
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": lr, "momentum": 0.9}},
        "param_scheduler": list(schedulers),
    }
    return to_text(config, "test")


@of_torch
def test_schedule_is_the_cosine_of_the_plan():
    cosine = {"type": "CosineAnnealingLR", "T_max": 30, "eta_min": 1e-5, "end": 30}
    lr = schedule({"config": config_with(3e-3, 30, cosine)})["lr"]
    expected = [1e-5 + (3e-3 - 1e-5) * (1 + math.cos(math.pi * e / 30)) / 2 for e in range(30)]
    assert lr == pytest.approx(expected, rel=1e-9)


@of_torch
def test_schedule_follows_a_warm_up_by_iteration():
    warm_up = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": True, "begin": 0, "end": 2}
    steps = {"type": "MultiStepLR", "milestones": [3], "gamma": 0.1, "by_epoch": True}
    text = config_with(0.01, 4, {**warm_up, "convert_to_iter_based": True}, steps)
    of_unknown = schedule({"config": text})
    answer = schedule({"config": text, "iters_per_epoch": 1700})
    assert of_unknown["near"] and of_unknown["lr"] == pytest.approx(answer["lr"], rel=4e-3)
    answer = schedule({"config": text, "iters_per_epoch": 10})
    assert answer["lr"][0] == pytest.approx(0.001)
    assert answer["lr"][2:] == pytest.approx([0.01, 0.001])
    assert answer["lr"][0] < answer["lr_end"][0] < answer["lr"][1]


@of_torch
def test_a_cosine_by_iteration_is_known_at_the_start_of_each_epoch():
    cosine = {"type": "CosineAnnealingLR", "T_max": 8, "convert_to_iter_based": True}
    answer = schedule({"config": config_with(0.2, 8, cosine)})
    expected = [0.1 * (1 + math.cos(math.pi * e / 8)) for e in range(8)]
    assert answer["lr"] == pytest.approx(expected) and answer["near"] is False


@of_torch
def test_a_schedule_that_counts_iterations_alone_is_not_shown():
    with pytest.raises(ToolError, match=r"counts iterations \(by_epoch=False\)"):
        schedule({"config": config_with(0.01, 4, {"type": "LinearLR", "by_epoch": False})})


@of_torch
def test_schedule_leaves_out_what_waits_for_a_metric():
    plateau = {"type": "ReduceOnPlateauLR", "monitor": "loss"}
    answer = schedule({"config": config_with(0.01, 2, plateau)})
    assert answer["lr"] == [0.01, 0.01] and answer["metric_driven"] == ["ReduceOnPlateauLR"]


def test_export_holds_the_weights_alone(tmp_path):
    rundir = tiny_run.make_run(tmp_path / "run", {"train_cfg.max_epochs": 1}, nproc=1)
    assert tiny_run.run_alone(rundir) == 0, tiny_run.logs(rundir)
    source, out = rundir.checkpoints / "epoch_1.pth", tmp_path / "out" / "weights.pth"
    code, answer = tiny_run.ask("export_weights", {"checkpoint": str(source), "out": str(out)})
    assert code == 0 and answer["bytes"] == out.stat().st_size and answer["epoch"] == 1
    weights = torch.load(out, weights_only=True)
    assert list(weights) == ["state_dict"] and len(weights["state_dict"]) == answer["keys"]
    code, answer = tiny_run.ask(
        "export_weights", {"checkpoint": str(out), "out": str(tmp_path / "x")}
    )
    assert code == 2 and "is not a trial checkpoint" in answer["error"]
    assert not (tmp_path / "x").exists()


def test_opencv_is_recorded_as_the_release_that_an_import_finds(folder):
    """Of two distributions the later one replaced the module; pip still lists the first."""
    (folder / "cv2").mkdir()
    (folder / "cv2" / "__init__.py").touch()
    (folder / "cv2" / "version.py").write_text('opencv_version = "5.1.0.95"\ncontrib = True\n')
    listed = folder / "opencv_python-4.14.0.94.dist-info"
    listed.mkdir()
    (listed / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.14\n")
    done = subprocess.run(  # a process of its own, which has not imported the real one
        [sys.executable, "-m", "pipeline.train.tools.versions"],
        input="{}",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tiny_run.ROOT), str(folder)])},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)["versions"]
    assert (found["opencv-contrib-python"], "opencv-python" in found) == ("5.1.0.95", False)
