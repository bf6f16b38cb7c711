"""Every part of a config that no job could use is named by one rehearsal, sound ones by none."""

from pathlib import Path

import pytest

import tiny_run
from pipeline.data.demo import make_demo
from pipeline.data.prepare import plan, prepare
from pipeline.data.sources import of_files
from pipeline.preflight.machine_overrides import apply_data_root
from pipeline.shared.store import spec_data
from pipeline.train.config_file import load
from pipeline.train.config_parts import missing_weights
from pipeline.train.config_text import to_text

JOBS = Path(tiny_run.JOBS)
TINY = (JOBS / "tiny.py").read_text()
PLAIN = """
custom_imports = dict(imports=["plain_parts"], allow_failed_imports=False)
default_scope = "mmengine"
model = dict(type="PlainModel")
train_dataloader = dict(batch_size=8, num_workers=0, collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=True), dataset=dict(type="PlainDataset"))
val_dataloader = dict(batch_size=8, num_workers=0, collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False), dataset=dict(type="PlainDataset"))
val_evaluator = dict(type="PlainMetric")
train_cfg, val_cfg = dict(by_epoch=True, max_epochs=2), dict()
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01))
"""
#: By name: what is appended to a sound config, and what is said; None: nothing.
TRAIN, DATA = "train_dataloader", "train_dataloader['dataset']"
BF16 = "optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')"
CASES = {
    "sound": ("", None),
    "one scheduler": ("param_scheduler = dict(type='ConstantLR', factor=0.5)", None),
    "by iteration": ("param_scheduler = [dict(type='LinearLR', by_epoch=False, end=9)]", None),
    "named loop": ("train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)", None),
    "found": ("model['spare'] = True; find_unused_parameters = True", None),
    "dropped": (f"{DATA}['length'] = 33; {TRAIN}['drop_last'] = True", None),
    "rounded": (f"{DATA}['length'] = 31", None),
    "more ranks than clips": (f"{DATA}['length'] = 1; {TRAIN}['batch_size'] = 1", "one sample"),
    "merged scheduler": (
        "param_scheduler = dict(type='CosineAnnealingLR', T_max=2, milestones=[1])",
        "param_scheduler cannot be built: TypeError: ",
    ),
    "empty span": (
        "param_scheduler = [dict(type='LinearLR', begin=4, end=4)]",
        "param_scheduler.0 cannot be built: ValueError: end should be larger than begin",
    ),
    "optimizer in another case": (
        "optim_wrapper['optimizer']['type'] = 'sgd'",
        'no optimizer is registered as "sgd". Did you mean "SGD"',
    ),
    "merged loop": ("train_cfg['max_iters'] = 9", "train_cfg cannot be built: TypeError: "),
    "merged validation": ("val_cfg = dict(interval=1)", "val_cfg cannot be built: TypeError"),
    "no such loop": ("val_cfg = dict(type='OwnLoop')", 'no loop is registered as "OwnLoop"'),
    "counts iterations": (
        "train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)",
        "train_cfg does not count in epochs",
    ),
    "merged loader": (f"{TRAIN}['shufle'] = True", "train_dataloader cannot be built: TypeError"),
    "persistent": (f"{TRAIN}['persistent_workers'] = True", "persistent_workers option needs"),
    "no end": (f"{TRAIN}['sampler'] = dict(type='InfiniteSampler')", "an epoch never ends"),
    "no batch": (
        f"{TRAIN}.update(batch_size=20, drop_last=True)",
        "an epoch has no batch (32 clips, 2 ranks, batch_size 20, drop_last=True)",
    ),
    "no validated batch": (
        "val_dataloader.update(batch_size=40, drop_last=True)",
        "val_dataloader: an epoch has no batch",
    ),
    "uneven": (
        f"{DATA}['length'] = 33; {TRAIN}['sampler']['round_up'] = False",
        "the ranks would have 2 and 3 batches (33 clips, 2 ranks, batch_size 8, round_up=False)",
    ),
    "last one": (
        f"{DATA}['length'] = 34",
        "a batch of an epoch has one sample (34 clips, 2 ranks, batch_size 8), which a batch",
    ),
    "spare": (
        "model['spare'] = True",
        "the loss does not depend on spare.weight, spare.bias; ranks that train together need",
    ),
    "frozen": (
        "model['frozen'] = True",
        "the first training step does not succeed: RuntimeError: element 0 of tensors",
    ),
    "label": (
        f"{DATA}['label'] = 7",
        "the first training step does not succeed: IndexError: Target 7 is out of bounds",
    ),
    "arguments": (
        f"{DATA}['key'] = 'truth'",
        "the first training step does not succeed: TypeError: PlainModel.forward() got an",
    ),
    "validated shape": (
        "val_dataloader['dataset']['features'] = 9",
        "the first validated sample does not fit the model: RuntimeError: running_mean",
    ),
    "trained shape": (
        f"{DATA}['features'] = 9",
        "the first training step does not succeed: RuntimeError: running_mean should contain 9",
    ),
    "in NumPy": ("model['in_numpy'] = True", None),
    "in NumPy, bf16": (
        f"model['in_numpy'] = True; {BF16}",
        "the first training step in bf16 does not succeed: PlainModel cannot compute in it "
        "(TypeError: Got unsupported ScalarType BFloat16). Leave out `amp: bf16` of job.speed",
    ),
    "bf16": (BF16, None),
}
STATEFUL = {
    "state of a training": ("", None),
    "optimizer": ("optim_wrapper = dict(optimizer=dict(type='Adam', moment=1))", "optim_wrapper"),
    "evaluator": ("val_evaluator['best'] = 1", "val_evaluator cannot be built: TypeError: "),
    "hook": ("custom_hooks = [dict(type='IterTimerHook', every=1)]", "custom_hooks.0 cannot be"),
    "ordered": ("custom_hooks = [dict(type='IterTimerHook', priority='LOWEST')]", None),
    "asserted": (
        "val_evaluator = dict(type='mmaction.AccMetric', metric_list=('f1_score',))",
        "cannot be built: AssertionError: acc_metric.py:57 has `assert metric in [`, in the",
    ),
}
GPU = {"early": "model['early_gpu'] = True", "late": "model['late_gpu'] = True"}


#: By name: what is added, and the learning rate of two ranks in the first epoch.
UNREAD = {
    "unknown data": ("val_dataloader['dataset']['type'] = 'OwnSet'", 0.1),
    "scaled": ("auto_scale_lr = dict(enable=True, base_batch_size=64)", 0.025),
}


@pytest.fixture(scope="module")
def answer():
    """What one child says of all configs, as two ranks would train them."""
    texts = {name: f"{PLAIN}\n{added}\n" for name, (added, _) in CASES.items()}
    texts.update({name: f"{TINY}\n{added}\n" for name, (added, _) in STATEFUL.items()})
    texts.update({name: f"{PLAIN}\n{added}\n" for name, added in GPU.items()})
    unread = {
        name: f"{TINY}\noptim_wrapper['optimizer']['lr'] = 0.1\nparam_scheduler = []\n"
        f"train_dataloader['batch_size'] = 8\n{added}\n"
        for name, (added, _) in UNREAD.items()
    }
    question = {"configs": {**texts, **unread}, "rehearse": texts, "ranks": 2}
    return tiny_run.ask("probe", question, path=[JOBS], CUDA_VISIBLE_DEVICES="")[1]


def problems(answer, name: str) -> list[str]:
    return [*answer["results"][name]["problems"], *answer["rehearsals"][name]["problems"]]


@pytest.mark.parametrize(
    ("backbone", "key"),
    [
        ({"init_cfg": {"type": "Pretrained", "checkpoint": "D:\\\\gone"}}, "init_cfg.checkpoint"),
        ({"stages": [{"pretrained": "ckpts/gone.pth"}]}, "stages.0.pretrained"),
        ({"pretrained": "https://host/gone.pth"}, None),
        ({"pretrained": "torchvision://resnet50"}, None),
        ({"pretrained": "name_of_own"}, None),
        ({"pretrained": True}, None),
        ({"pretrained": __file__}, None),
    ],
)
def test_weights_that_a_part_begins_with_and_that_are_not_there_are_named(backbone, key) -> None:
    found = list(missing_weights({"backbone": backbone}, "model"))
    assert [f"model.backbone.{key} names the weights" in one for one in found] == [True] * bool(
        key
    )


def test_a_scheduler_that_cannot_be_built_is_said_once(answer) -> None:
    found = answer["results"]["empty span"]
    assert found["lr"] is None and found["lr_error"] is None and len(found["problems"]) == 1


def test_without_data_a_data_set_that_nothing_defines_is_named(answer) -> None:
    [said] = answer["results"]["unknown data"]["problems"]
    assert "defines OwnSet (val_dataloader.dataset). Name the module" in said, said
    assert answer["results"]["scaled"]["problems"] == []


@pytest.mark.parametrize("name", UNREAD)
def test_the_lr_is_that_of_all_ranks_together(answer, name) -> None:
    assert answer["results"][name]["lr"][0] == pytest.approx(UNREAD[name][1])


@pytest.mark.parametrize("name", [*CASES, *STATEFUL])
def test_a_part_that_no_job_could_use_is_named_and_a_sound_one_is_not(answer, name) -> None:
    said = {**CASES, **STATEFUL}[name][1]
    found = problems(answer, name)
    assert found == [] if said is None else said in "\n".join(found), found


@pytest.mark.parametrize("name", GPU)
def test_a_model_that_asks_for_a_gpu_is_not_refused_but_said(answer, name) -> None:
    (note,) = [*answer["results"][name]["notes"], *answer["rehearsals"][name]["notes"]]
    assert problems(answer, name) == [] and "for a GPU before the training (" in note
    assert "it is not rehearsed. Build it on the CPU" in note


def test_what_a_loader_s_batches_take_is_counted(answer) -> None:
    load = answer["rehearsals"]["sound"]["loads"]["train_dataloader"]
    assert load == {"batch_tensors": 2, "batch_bytes": 8 * 40, "workers": 0, "prefetch": 2}


def test_a_prepared_store_is_rehearsed_with_its_own_chain(tmp_path) -> None:
    make_demo(tmp_path / "demo", clips=2)
    sources = of_files(tmp_path / "demo" / "ann.pkl", tmp_path / "demo" / "videos", "train", "val")
    prepare(plan(tmp_path / "store", sources, "fine"), workers=1, max_bad=0)
    config, _ = load(str(tiny_run.ROOT / "configs" / "pcan_demo.py"))
    text = apply_data_root(to_text(config, "pcan_demo.py"), str(tmp_path / "demo"))
    other = text.replace("Pose=32", "Pose=16")
    data = spec_data("prepared", tmp_path / "store")
    question = {"configs": {}, "rehearse": {"own": text, "other": other}, "data": data}
    found = tiny_run.ask("probe", question)[1]["rehearsals"]
    assert found["own"]["problems"] == [] and "acc/rgb_top1" in found["own"]["metrics"]
    assert "The store was made for" in found["other"]["problems"][0], found["other"]
