"""A run that reads its averaged weights equals one that does not, and reads what it says."""

import copy
import json
import signal
import types
import warnings

import pytest
import torch
from torch import nn

import tiny_run
from pipeline.shared.files import read_json
from pipeline.shared.measurement import AVERAGED, AVERAGED_SECONDS
from pipeline.train.weight_sums import WeightSums, first_epoch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's of its own parts, imported through mmengine
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    from pipeline.train.averaged_weights import KEY, LATER, stepped
    from pipeline.train.batch_statistics import measure_again, trained_batch_norms
    from tiny_parts import TinyModel

#: All that a reading could disturb: persistent workers, dropout, momentum, an average of the
#: user's own, a schedule on the metric, half precision, gradients that accumulate over the
#: epochs' ends.
HARD = {
    "custom_hooks": [{"type": "EMAHook"}],
    "train_dataloader.num_workers": 2,
    "train_dataloader.persistent_workers": True,
    "val_dataloader.num_workers": 1,
    "val_dataloader.persistent_workers": True,
    "optim_wrapper": {
        "type": "AmpOptimWrapper",
        "dtype": "bfloat16",
        "loss_scale": {"enabled": False},
        "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
        "accumulative_counts": 3,
    },
    "train_cfg.max_epochs": 5,
    "param_scheduler": [
        {"type": "OneCycleLR", "eta_max": 0.05, "total_steps": 40, "by_epoch": False},
        {"type": "ReduceOnPlateauParamScheduler", "param_name": "lr", "patience": 0,
         "monitor": "acc/RGBPose_1:1_top1", "rule": "greater", "by_epoch": True},
    ],
}  # fmt: skip
EASY = {"train_cfg.max_epochs": 5}
CHECKS = [3, 4]


def make(folder, overrides, checks=CHECKS, **spec):
    return tiny_run.make_run(folder, overrides, averaged_checks=checks, **spec)


def checkpoint(rundir, epoch):
    return torch.load(rundir.checkpoints / f"epoch_{epoch}.pth", weights_only=True)


def contents(rundir, epoch):
    """Return a checkpoint without what belongs to its own start, or to a run with readings."""
    found = checkpoint(rundir, epoch)
    found.pop(LATER, None)
    for name in ("time", "attempt"):
        found["meta"].pop(name)
    for name in ("time", "attempt", "seconds", "times"):
        found["measurement"].pop(name)
    return found


def reported(rundir):
    """Return every epoch's figures, without the readings, and the readings apart."""
    figures, readings = [], {}
    for one in rundir.read_measurements():
        extra = dict(one.extra)
        extra.pop(AVERAGED_SECONDS, None)
        if AVERAGED in extra:
            readings[one.epoch] = extra.pop(AVERAGED)
        figures.append((one.epoch, one.top1, one.lr, one.loss, extra))
    return figures, readings


def same_run(one, other, last=5):
    assert reported(one)[0] == reported(other)[0]
    assert tiny_run.difference(contents(one, last), contents(other, last)) is None


#: The same run as one process is a slow proof: two ranks can differ in more ways.
ONE = pytest.param(1, id="one process", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[ONE, pytest.param(2, id="two ranks")])
def pair(request, tmp_path_factory):
    """A run without readings and one with them, alike in all else."""
    folder, ranks = tmp_path_factory.mktemp("pair"), request.param
    runs = []
    for name, checks in (("plain", []), ("read", CHECKS)):
        rundir = make(folder / name, HARD, checks, nproc=ranks)
        codes = tiny_run.run_ranks(rundir) if ranks == 2 else [tiny_run.run_alone(rundir)]
        assert not any(codes), tiny_run.logs(rundir)
        runs.append(rundir)
    return runs


def test_a_run_with_readings_equals_one_without(pair):
    plain, read = pair
    same_run(plain, read)
    assert reported(plain)[1] == {} and sorted(reported(read)[1]) == CHECKS


def test_only_a_run_with_readings_pays_for_the_sum_of_its_later_weights(pair):
    plain, read = pair
    assert LATER not in checkpoint(plain, 5)
    [kept] = checkpoint(read, 5)[LATER].values()
    assert kept["steps"] > 0


def test_a_reading_is_no_result(pair):
    _, read = pair
    best = max(m.top1 for m in read.read_measurements())
    assert read_json(read.outcome)["best_top1"] == best
    assert KEY not in contents(read, 5), "nothing is left open"
    assert "averaged" not in json.dumps(read_json(read.facts))


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """An unbroken run of one process with readings."""
    rundir = make(tmp_path_factory.mktemp("easy") / "run", EASY, nproc=1)
    assert tiny_run.run_alone(rundir) == 0, tiny_run.logs(rundir)
    return rundir


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """An unbroken run of two ranks with readings."""
    rundir = make(tmp_path_factory.mktemp("two") / "run", EASY)
    assert tiny_run.run(rundir) == 0, tiny_run.logs(rundir)
    return rundir


#: Where a job is killed: before its check, with its checkpoint of the check not yet measured,
#: within the reading, and after its line was written.
KILLS = {
    "before": ("pipeline.train.checkpoints", "write", 3),
    "with its checkpoint": ("pipeline.train.batch_statistics", "measure_again", 1),
    "in the validation": ("pipeline.train.hooks.LoaderSeedHook", "before_val_epoch", 4),
    "after": ("pipeline.train.epoch_end", "wait_for_verdict", 3),
}
KILLER = """\
import importlib, os, pydoc, signal, sys
def deadly(place, name, count):
    owner = pydoc.locate(place)
    real = getattr(owner, name)
    calls = []
    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(owner, name, call)
    import pipeline.train.averaged_weights as users
    if name == "measure_again":
        users.measure_again = call
if os.environ.get("RANK", "0") == {victim!r}:
    deadly({place!r}, {name!r}, {count})
from pipeline.train.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def killer(moment, victim):
    """Return a job's program that kills the rank `victim` at that moment."""
    place, name, count = KILLS[moment]
    return KILLER.format(place=place, name=name, count=count, victim=victim)


def go_on(rundir, moment):
    """Check what a job killed at that moment left, and have the next start go on from there."""
    assert (3 in reported(rundir)[1]) is (moment == "after")
    newest = max(int(file.stem[6:]) for file in rundir.checkpoints.glob("epoch_*.pth"))
    assert newest == (2 if moment == "before" else 3), tiny_run.logs(rundir)
    tiny_run.change_spec(rundir, attempt=2, resume=f"checkpoints/epoch_{newest}.pth")


def beside_the_usual(moment):
    return pytest.param(moment, marks=[pytest.mark.slow, pytest.mark.sample])


@pytest.mark.parametrize(
    "moment",
    [
        "with its checkpoint",
        pytest.param("in the validation", marks=pytest.mark.slow),
        beside_the_usual("before"),
        beside_the_usual("after"),
    ],
)
def test_a_run_killed_around_a_reading_goes_on_as_if_it_had_not_been(easy, tmp_path, moment):
    rundir = make(tmp_path / "killed", EASY, nproc=1)
    assert tiny_run.run_program(rundir, killer(moment, "0")) == -signal.SIGKILL
    go_on(rundir, moment)
    assert tiny_run.run_alone(rundir) == 0, tiny_run.logs(rundir)
    same_run(easy, rundir)
    assert reported(rundir)[1] == reported(easy)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "victim"),
    [
        ("before", "0"),
        ("with its checkpoint", "0"),
        ("with its checkpoint", "1"),
        ("in the validation", "0"),
        ("in the validation", "1"),
        ("after", "0"),
    ],
)
def test_two_ranks_go_on_as_if_one_had_not_been_killed(two_ranks, tmp_path, moment, victim):
    rundir = make(tmp_path / "killed", EASY)
    program = tmp_path / "killer.py"
    program.write_text(killer(moment, victim))
    assert tiny_run.run(rundir, program=[program]) != 0
    go_on(rundir, moment)
    assert tiny_run.run(rundir) == 0, tiny_run.logs(rundir)
    same_run(two_ranks, rundir)
    assert reported(rundir)[1] == reported(two_ranks)[1]


#: Keeps what the model is given in a reading, and the weights that are validated.
RECORDER = """\
import sys, torch
from pathlib import Path
import pipeline.train.averaged_weights as weights
given, real = {"loss": [], "predict": []}, weights.measure_again
def measure_again(runner, model, seed):
    def note(_, args, named):
        given[named["mode"]].append((named["inputs"].clone(), torch.as_tensor(named["label"])))
        given["weights"] = {name: one.clone() for name, one in model.state_dict().items()}
    model.register_forward_pre_hook(note, with_kwargs=True)
    real(runner, model, seed)
weights.measure_again = measure_again
from pipeline.train.__main__ import main
code = main(sys.argv[1:])
torch.save(given, Path(sys.argv[1]) / "given.pth")
sys.exit(code)
"""


def test_a_reading_is_what_the_mean_of_kept_checkpoints_reads(tmp_path):
    one_step = {"train_cfg.max_epochs": 3, "train_dataloader.batch_size": 64}
    rundir = make(tmp_path / "run", one_step, [3], nproc=1)
    assert tiny_run.run_program(rundir, RECORDER) == 0, tiny_run.logs(rundir)
    given = torch.load(rundir.root / "given.pth", weights_only=True)
    older, newer = (checkpoint(rundir, epoch)["state_dict"] for epoch in (2, 3))
    model = TinyModel().eval()
    model.load_state_dict({name: (older[name] + newer[name]) / 2 for name in newer})
    [(clips, _)] = given["loss"]
    before = model.trunk[0](clips).detach()
    model.trunk[1].running_mean, model.trunk[1].running_var = before.mean(0), before.var(0)
    for name, weight in model.state_dict().items():
        if "num_batches" not in name:
            assert torch.allclose(given["weights"][name], weight, atol=1e-6), name
    right = []
    for inputs, labels in given["predict"]:
        scores = [one["pred_score"] for one in model(inputs, labels, mode="predict")]
        guesses = torch.stack([one["rgb"] + one["pose"] for one in scores]).argmax(1)
        right += (guesses == labels).tolist()
    assert reported(rundir)[1] == {3: sum(right) / 32}


class Small(nn.Module):
    """Two weights' worth of a model, with a buffer that is averaged and one that is not."""

    averaged_buffers = ("centre",)

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("centre", torch.zeros(2))


def test_the_mean_is_that_of_every_step_of_the_later_half():
    model, kept, sums = Small(), [], WeightSums([4, 8])
    for epoch in range(1, 5):
        sums.begin_epoch(epoch)
        for _ in range(3):
            with torch.no_grad():
                for tensor in (*model.parameters(), model.centre):
                    tensor.add_(torch.randn_like(tensor))
            sums.add(model)
            if epoch >= first_epoch(4):
                kept.append(copy.deepcopy(model.state_dict()))
    assert sums.complete(4) and not sums.complete(8)
    sums.take(4).put_into(model)
    for name in ("layer.weight", "norm.bias", "centre"):
        by_hand = torch.stack([one[name].double() for one in kept]).mean(0)
        assert torch.allclose(model.state_dict()[name].double(), by_hand, atol=1e-6), name
    assert torch.equal(model.norm.running_mean, torch.zeros(2)), "measured again, not averaged"


@pytest.mark.parametrize("checks", [(4, 8, 15), (3, 4), (3, 5, 10), (3, 6), (7, 13, 25)])
def test_at_most_two_sums_of_the_usual_checks_are_open(checks):
    sums, model, most = WeightSums(checks), Small(), 0
    for epoch in range(1, 31):
        sums.begin_epoch(epoch)
        sums.add(model)
        most = max(most, len(sums.state()))
        if sums.complete(epoch) and epoch in checks:
            sums.take(epoch)
    assert most <= 2 and not sums.state()


def test_sums_survive_a_checkpoint_and_a_check_in_mid_window_is_not_begun():
    sums, model = WeightSums([8]), Small()
    sums.begin_epoch(5)
    sums.add(model)
    other = WeightSums([8, 10])
    other.restore(sums.state())
    other.begin_epoch(7)
    assert list(other.state()) == ["8"] and other.state()["8"]["steps"] == 1
    dropped = WeightSums([])
    dropped.restore(sums.state())
    assert dropped.state() == {}


def test_only_an_optimizer_step_counts_while_gradients_accumulate():
    model = nn.Linear(2, 1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 5)
    counted = []
    for _ in range(5):
        wrapper.update_params(model(torch.ones(1, 2)).sum())
        counted.append(stepped(wrapper))
    assert counted == [False, True, False, True, True]
    assert stepped(OptimWrapperDict(one=wrapper))


def test_only_the_layers_whose_statistics_training_moves_are_measured_again():
    model = nn.Sequential(
        nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False), Frozen()
    )
    assert trained_batch_norms(model) == [model[0]]
    assert trained_batch_norms(nn.Linear(2, 2)) == []


class Frozen(nn.BatchNorm1d):
    """A layer that a model keeps as it is while it trains (`norm_eval`)."""

    def __init__(self):
        super().__init__(2)

    def train(self, mode=True):
        return super().train(False)


def test_half_precision_weights_are_summed_in_single():
    model = nn.Linear(4, 4).to(torch.bfloat16)
    sums = WeightSums([2])
    sums.begin_epoch(2)
    for _ in range(300):
        sums.add(model)
    (total,) = [one["sums"]["weight"] for one in sums.state().values()]
    assert total.dtype == torch.float32
    before = model.weight.detach().clone()
    sums.take(2).put_into(model)
    assert torch.allclose(model.weight.float(), before.float(), rtol=1e-2)


class Normed(nn.Module):
    """A model as MMEngine's are, of one layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def data_preprocessor(self, batch, training):
        assert training
        return batch[0]

    def _run_forward(self, data, mode):
        assert mode == "loss" and not self.training and not torch.is_grad_enabled()
        return self.layer(data)


def runner_of(model, clips):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(clips), batch_size=4)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    return types.SimpleNamespace(
        model=model, optim_wrapper=wrapper, train_dataloader=loader, epoch=3
    )


def test_the_statistics_are_the_mean_over_batches_of_a_plain_pass():
    clips, model = torch.randn(12, 3) * 5 + 2, Normed(nn.BatchNorm1d(3))
    model.layer.running_mean.fill_(99.0)
    measure_again(runner_of(model, clips), model, seed=7)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(7 + 3))
    batches = clips[order].split(4)
    assert torch.allclose(model.layer.running_mean, clips.mean(0), atol=1e-5)
    variance = torch.stack([batch.var(0) for batch in batches]).mean(0)
    assert torch.allclose(model.layer.running_var, variance, atol=1e-5)
    assert model.layer.momentum == 0.1 and not model.layer.training


def test_without_batch_norm_no_clip_is_read():
    model = Normed(nn.Linear(3, 3))
    runner = runner_of(model, torch.randn(12, 3))
    runner.train_dataloader = None
    measure_again(runner, model, seed=7)
