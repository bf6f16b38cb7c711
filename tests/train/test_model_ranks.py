"""Prototypes in data-parallel training and across a restart: two real gloo ranks, real files."""

import sys
import warnings
from pathlib import Path

import pytest
import torch

import tiny_run
from pipeline.train import distributed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.structures import ActionDataSample

    from pipeline.train.model import PCANHead

STEPS = 20
BATCH = 8
PROTOTYPES = [f"prototypes_{s}{c}.prototypes" for s in ("rgb", "pose") for c in ("", "_coarse")]


def build(dropout=0.0):
    torch.manual_seed(0)
    return PCANHead(
        num_classes=6, in_channels=[8, 4], fine_to_coarse=[0, 0, 1, 1, 2, 2],
        prototype_channels=[4, 3], dropout=dropout, topk=(1,),
    )  # fmt: skip


#: A batch in which every bank has a sample that is predicted right, so that all four move.
FIRST = 1349


def batch(step, part=slice(None)):
    """A batch whose features tell the class, so that right and wrong answers both occur."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(0, 6, (BATCH,), generator=generator)[part]
    feats = [torch.randn(BATCH, c, 2, 2, 2, generator=generator)[part] for c in (8, 4)]
    for x in feats:
        x[torch.arange(len(labels)), labels % x.shape[1]] += 2.0
    return feats, [ActionDataSample().set_gt_label(int(label)) for label in labels]


def step_once(loss, optimizer, step, part=slice(None)):
    """Take one real SGD step on the summed loss terms."""
    terms = loss(*batch(step, part))
    optimizer.zero_grad()
    sum(value for name, value in terms.items() if "loss" in name).backward()
    optimizer.step()


class LossModule(torch.nn.Module):
    """Reach the loss through `forward`, as DistributedDataParallel needs it."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, feats, samples):
        return self.head.loss(feats, samples)


def rank_main(folder):
    """One of two ranks: half of each batch; writes its states."""
    torch.set_num_threads(1)
    distributed.join("cpu")
    rank = distributed.rank()
    part = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    first = build()
    first.loss(*batch(FIRST, part))
    head = build()
    model = torch.nn.parallel.DistributedDataParallel(LossModule(head))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    states = []
    for step in range(STEPS):
        step_once(model, optimizer, step, part)
        states.append({name: value.clone() for name, value in head.state_dict().items()})
    torch.save({"first": first.state_dict(), "states": states}, Path(folder) / f"rank{rank}.pth")
    distributed.leave()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    log = folder / "log"
    codes = tiny_run.run_script_as_ranks(__file__, folder, log=log)
    assert codes == [0, 0], log.read_text()[-3000:]
    return [torch.load(folder / f"rank{rank}.pth", weights_only=True) for rank in (0, 1)]


def test_two_halves_move_the_prototypes_as_the_whole_batch_does(ranks):
    whole = build()
    whole.loss(*batch(FIRST))
    moved = 0
    for name in PROTOTYPES:
        expected = whole.state_dict()[name]
        torch.testing.assert_close(ranks[0]["first"][name], expected, rtol=0, atol=1e-6)
        moved += not torch.equal(expected, build().state_dict()[name])
    assert moved == len(PROTOTYPES)


def test_both_ranks_hold_the_same_numbers_after_each_of_20_steps(ranks):
    for one, other in zip(ranks[0]["states"], ranks[1]["states"], strict=True):
        for name in one:
            assert torch.equal(one[name], other[name]), name


def test_sums_of_two_ranks_are_those_of_one_process_step_by_step(ranks):
    """From the ranks' own weights at each step, the whole batch gives their next prototypes."""
    head = build()
    for step, state in enumerate(ranks[0]["states"]):
        head.loss(*batch(step))
        for name in PROTOTYPES:
            torch.testing.assert_close(head.state_dict()[name], state[name], rtol=0, atol=2e-6)
        head.load_state_dict(state)


def test_a_resumed_training_takes_the_same_next_steps(tmp_path):
    torch.manual_seed(3)
    head = build(dropout=0.5)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    for number in range(3):
        step_once(head.loss, optimizer, number)
    saved = {"head": head.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**saved, "rng": torch.get_rng_state()}, tmp_path / "middle.pth")
    for number in range(3, 6):
        step_once(head.loss, optimizer, number)

    middle = torch.load(tmp_path / "middle.pth", weights_only=True)
    again = build(dropout=0.5)
    again.load_state_dict(middle["head"])
    resumed = torch.optim.SGD(again.parameters(), lr=0.1, momentum=0.9)
    resumed.load_state_dict(middle["optimizer"])
    torch.set_rng_state(middle["rng"])
    for number in range(3, 6):
        step_once(again.loss, resumed, number)
    for name, value in head.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


if __name__ == "__main__":
    rank_main(sys.argv[1])
