"""Jobs with `job.speed` train as the job in float32 does, within stated noise."""

import functools
import json
import subprocess
import sys
import types
import warnings

import pytest
import torch
from torch.utils.data import default_collate

import tiny_run
from pipeline.shared.measurement import AVERAGED
from pipeline.train.config_file import load
from pipeline.train.config_text import to_text
from pipeline.train.speed_config import apply_speed, precision_of, speed_problem

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch's of its own parts, imported through mmengine
    from mmengine.config import Config
    from mmengine.model import BaseModel
    from mmengine.optim.optimizer import amp_optimizer_wrapper

    from pipeline.shared.spec import TrialSpec
    from pipeline.train import checkpoints
    from pipeline.train.first_step import step_problems
    from pipeline.train.outcome import JobFailure
    from pipeline.train.speed import lacking, lay_out_weights, set_speed

#: Relative difference of an epoch's mean loss to the job in float32. bfloat16 has 8 bits of
#: mantissa (2**-9 a rounding); another layout changes the order of sums only.
NOISE = {"bf16": 0.02, "channels_last": 1e-4}
MODEL = {"model.type": "TinyVideoModel", "train_cfg.max_epochs": 4}


def make(folder, speed):
    """Write the run directory of a job of one process with these settings."""
    rundir = tiny_run.make_run(
        folder, MODEL, nproc=1, epochs=4, averaged_checks=[4],
        speed={k: v for k, v in speed.items() if v} or None,
    )  # fmt: skip
    config, _ = load(str(rundir.config))
    apply_speed(config, speed)
    rundir.config.write_text(to_text(config, "config.py"))
    return rundir


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    root = tmp_path_factory.mktemp("speed")
    settings = {"fp32": {}, "bf16": {"amp": "bf16"}, "channels_last": {"channels_last": True}}
    made = {name: make(root / name, speed) for name, speed in settings.items()}
    for one in made.values():
        assert tiny_run.run_alone(one) == 0, tiny_run.logs(one)
    assert [tiny_run.outcome(one)["state"] for one in made.values()] == ["COMPLETE"] * 3
    return made


def losses(rundir):
    return [m.loss for m in rundir.read_measurements()]


def state(rundir):
    return torch.load(rundir.checkpoints / "epoch_3.pth", weights_only=True)


@pytest.mark.parametrize("name", ["bf16", "channels_last"])
def test_losses_and_top1_are_those_of_float32_within_noise(jobs, name):
    want, got = losses(jobs["fp32"]), losses(jobs[name])
    assert got == pytest.approx(want, rel=NOISE[name])
    top1 = [[m.top1 for m in jobs[one].read_measurements()] for one in ("fp32", name)]
    assert top1[1] == pytest.approx(top1[0], abs=1.01 / 32)  # one clip of the 32 at most


def test_bfloat16_is_really_computed_in(jobs):
    assert losses(jobs["bf16"]) != losses(jobs["fp32"])


@pytest.mark.parametrize("name", ["bf16", "channels_last"])
def test_weights_sums_and_momentum_stay_in_single_precision(jobs, name):
    found = state(jobs[name])
    kept = next(iter(found["averaged_weights"].values()))
    tensors = [*found["state_dict"].values(), *kept["sums"].values()]
    tensors += [one["momentum_buffer"] for one in found["optimizer"]["state"].values()]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("name", ["bf16", "channels_last"])
def test_averaged_weights_read_as_in_float32(jobs, name):
    read = [jobs[one].read_measurements()[-1].extra[AVERAGED] for one in ("fp32", name)]
    assert read[1] == pytest.approx(read[0], abs=1.01 / 32)


def test_checkpoint_of_another_layout_has_the_same_shapes(jobs):
    plain, other = (state(jobs[name])["state_dict"] for name in ("fp32", "channels_last"))
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in other.items()}
    layout = {"memory_format": torch.channels_last_3d}
    assert other["trunk.4.weight"].is_contiguous(**layout)
    assert not plain["trunk.4.weight"].is_contiguous(**layout)


def test_convolutions_take_over_the_layout_of_their_weights():
    model = torch.nn.Sequential(torch.nn.Conv3d(3, 8, 3), torch.nn.Conv3d(8, 4, 2))
    video = torch.randn(2, 3, 4, 8, 8)
    want = model(video)
    lay_out_weights(model)
    got = model(video)
    assert got.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_float16_is_refused_on_the_cpu():
    config = Config({"optim_wrapper": {"type": "AmpOptimWrapper", "optimizer": {"type": "SGD"}}})
    with pytest.raises(JobFailure, match="float16 needs a GPU"):
        set_speed(config, TrialSpec(device="cpu"))


def test_loss_scaler_goes_on_as_it_was_after_a_checkpoint(tmp_path, monkeypatch):
    # The wrapper asks for a GPU; torch's own scaler of the CPU keeps the same state.
    scaler = functools.partial(torch.amp.GradScaler, "cpu", growth_interval=3)
    monkeypatch.setattr(amp_optimizer_wrapper, "GradScaler", scaler)
    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    weight = torch.nn.Parameter(torch.ones(2))
    made = [
        amp_optimizer_wrapper.AmpOptimWrapper(optimizer=torch.optim.SGD([weight], lr=0.1))
        for _ in range(2)
    ]
    for factor in (1.0, 1.0, float("inf"), 1.0):  # the third overflows: half the scale
        made[0].update_params((weight * factor).sum())
    checkpoints.write(tmp_path / "x.pth", checkpoints.plain({"state": made[0].state_dict()}))
    made[1].load_state_dict(torch.load(tmp_path / "x.pth", weights_only=True)["state"])
    states = [one.loss_scaler.state_dict() for one in made]
    assert states[0] == states[1]
    assert (states[1]["scale"], states[1]["_growth_tracker"]) == (2.0**15, 1)


def test_compiling_needs_a_torch_that_can(monkeypatch):
    assert lacking({"amp": "bf16"}) == []
    monkeypatch.delattr(torch, "compile")
    (sentence,) = lacking({"compile": True})
    assert "has no torch.compile (it came with 2.0)" in sentence


class NumpyHead(BaseModel):
    """Reads its outputs in NumPy while it trains, which has no bfloat16."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, inputs, **_):
        scores = self.layer(inputs)
        return {"loss": scores.sum(), "acc": torch.tensor(scores.detach().numpy().mean())}


@pytest.mark.parametrize(("amp", "found"), [(None, 0), ("bf16", 1)])
def test_a_model_that_cannot_take_bfloat16_is_found_by_its_first_step(amp, found):
    config = {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}}
    apply_speed(config, {"amp": amp})
    shape = types.SimpleNamespace(smallest_batch=2, ranks=1)
    sample = {"inputs": torch.ones(4)}
    problems = step_problems(Config(config), NumpyHead(), default_collate, sample, shape)
    assert len(problems) == found and all("BFloat16" in one for one in problems)


WRAPPER = {"optimizer": {"type": "SGD", "lr": 0.1}}


def test_amp_is_written_as_mmengines_own_wrapper():
    config = {"optim_wrapper": dict(WRAPPER)}
    apply_speed(config, {"amp": "bf16", "tf32": True, "channels_last": True})
    wrapper = {"type": "AmpOptimWrapper", "dtype": "bfloat16", "loss_scale": {"enabled": False}}
    assert config == {"optim_wrapper": {**WRAPPER, **wrapper}, "allow_tf32": True}
    assert precision_of(config) == "bf16+tf32"
    again = json.loads(json.dumps(config))
    apply_speed(again, {"amp": "bf16"})
    assert again == config


@pytest.mark.parametrize(
    ("config", "speed", "words"),
    [
        ({"optim_wrapper": {"type": "AmpOptimWrapper"}}, {"amp": "bf16"}, "computes in fp16"),
        ({"optim_wrapper": {"type": "ApexOptimWrapper"}}, {"amp": "fp16"}, "a ApexOptimWrapper"),
        ({"optim_wrapper": {"constructor": "Two"}}, {"amp": "fp16"}, "several optimizers"),
        ({"compile": {"mode": "default"}}, {"compile": False}, "compile = {'mode': 'default'}"),
        ({"env_cfg": {"cudnn_benchmark": True}}, {"cudnn_benchmark": False}, "cudnn_benchmark"),
    ],
)
def test_settings_against_the_configs_own_are_refused(config, speed, words):
    assert words in str(speed_problem(config, speed))


@pytest.mark.parametrize("speed", [{}, {"compile": True}, {"channels_last": True}])
def test_what_changes_no_arithmetic_leaves_the_config_as_it_is(speed):
    config = {"optim_wrapper": dict(WRAPPER), "compile": True}
    before = to_text(config, "config.py")
    assert speed_problem(config, speed) is None
    apply_speed(config, speed)
    assert (to_text(config, "config.py"), precision_of(config)) == (before, "fp32")


@pytest.mark.slow
def test_a_compiled_job_trains_as_the_other_does(jobs, tmp_path):
    made = make(tmp_path / "compiled", {"compile": True})
    command = [sys.executable, "-m", "pipeline.train", str(made.root)]
    subprocess.run(command, env=tiny_run.environment_of(made), check=True, timeout=1800)
    assert 'Model has been "compiled"' in made.rank_log(0).read_text()
    assert losses(made) == pytest.approx(losses(jobs["fp32"]), rel=0.05)  # other dropout masks
    top1 = [[m.top1 for m in one.read_measurements()] for one in (jobs["fp32"], made)]
    assert top1[1] == pytest.approx(top1[0], abs=2.01 / 32)  # two clips of the 32 at most
