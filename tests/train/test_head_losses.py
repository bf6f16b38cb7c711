"""Every loss term of PCANHead against plain float64 loops written from the equations."""

import math
import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmcv-lite and torch.jit warn once when imported
    from mmaction.structures import ActionDataSample

    from pipeline.train.model import PCANHead

PARENTS = [0, 0, 0, 1, 1, 2, 2]
K, KC = 7, 3
CHANNELS = {"rgb": 6, "pose": 5}
WEIGHTS = [1.0, 2.0, 0.5, 0.8]


# --- the equations, as loops over numbers ------------------------------------------------


def softmax(row):
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def entropy(row, label):
    return -math.log(softmax(row)[label])


def norm(vector):
    return math.sqrt(sum(value * value for value in vector))


def cosine(a, b):
    if norm(a) == 0 or norm(b) == 0:
        return 0.0
    return sum(x * y for x, y in zip(a, b, strict=True)) / (norm(a) * norm(b))


def argmax(row):
    return max(range(len(row)), key=lambda k: row[k])


def linear(layer, vector):
    weight = layer.weight.detach().double().numpy()
    bias = layer.bias.detach().double().numpy()
    return [
        sum(weight[o][i] * vector[i] for i in range(len(vector))) + bias[o]
        for o in range(len(bias))
    ]


def tree_loss(fine, coarse, labels):
    total = 0.0
    for z, c, label in zip(fine, coarse, labels, strict=True):
        p = [1 / (1 + math.exp(-value)) for value in list(c) + list(z)]
        states = []
        for k in range(KC):
            states.append([1 if bit == k else 0 for bit in range(KC + K)])
        for k in range(K):
            on = (KC + k, PARENTS[k])
            states.append([1 if bit in on else 0 for bit in range(KC + K)])
        joint = [math.exp(sum(s * q for s, q in zip(state, p, strict=True))) for state in states]
        true = sum(j for j, state in zip(joint, states, strict=True) if state[KC + label] == 1)
        total += -math.log(true / sum(joint))
    return total / len(labels)


def fine_sets(fine, coarse, labels):
    """Return which set (TP, FN1, FN2, FN3) each sample is in."""
    found = []
    for z, c, label in zip(fine, coarse, labels, strict=True):
        a, b = argmax(z) == label, argmax(c) == PARENTS[label]
        found.append(
            {(True, True): 0, (False, True): 1, (True, False): 2, (False, False): 3}[a, b]
        )
    return found


def coarse_sets(coarse, labels):
    return [0 if argmax(c) == label else 1 for c, label in zip(coarse, labels, strict=True)]


def calibration(f, logits, labels, sets, factors, old):
    """Return (mean loss without diversity, moved prototypes)."""
    classes, width = old.shape
    moved = old.copy()
    for k in range(classes):
        members = [f[i] for i in range(len(f)) if sets[i] == 0 and labels[i] == k]
        if members:
            for j in range(width):
                mean = sum(member[j] for member in members) / len(members)
                moved[k][j] = 0.9 * old[k][j] + 0.1 * mean
    kinds = len(factors) - 1
    total = 0.0
    for i in range(len(f)):
        label = labels[i]
        doubt = 0.125 * (1 - softmax(logits[i])[label])
        for kind in range(kinds + 1):
            if kind < kinds:
                members = [n for n in range(len(f)) if sets[n] == kind + 1 and labels[n] == label]
                sign = 1
            else:
                members = [
                    n for n in range(len(f)) if argmax(logits[n]) == label and labels[n] != label
                ]
                sign = -1
            scores = [cosine(f[i], moved[k]) for k in range(classes)]
            if members:
                centre = [sum(f[n][j] for n in members) for j in range(width)]
                scores[label] += (sign * cosine(f[i], centre) - 1) * doubt
            total += entropy([factors[kind] * score / 0.125 for score in scores], label)
    return total / len(f), moved


def spread(prototypes):
    return math.sqrt(sum(cosine(a, b) ** 2 for a in prototypes for b in prototypes))


def reference(head, feats, labels):
    """Return all loss terms and the moved prototypes, by the names that PCANHead uses."""
    terms, moved = {}, {}
    coarse_labels = [PARENTS[label] for label in labels]
    for number, (stream, x) in enumerate(zip(("rgb", "pose"), feats, strict=True)):
        x = x.detach().double().numpy()
        pooled = [[x[i, c].mean() for c in range(x.shape[1])] for i in range(len(x))]
        peak = [[x[i, c].mean(axis=0).max() for c in range(x.shape[1])] for i in range(len(x))]
        z = [linear(getattr(head, f"fc_{stream}"), row) for row in pooled]
        c = [linear(getattr(head, f"fc_{stream}_coarse"), row) for row in pooled]
        n = len(labels)
        terms[f"{stream}_loss_cls"] = (
            WEIGHTS[number] * sum(entropy(z[i], labels[i]) for i in range(n)) / n
        )
        terms[f"{stream}_coarse_loss_cls"] = (
            WEIGHTS[number + 2] * sum(entropy(c[i], coarse_labels[i]) for i in range(n)) / n
        )
        terms[f"{stream}_loss_hierarchy"] = tree_loss(z, c, labels)
        fine, coarse = (getattr(head, f"prototypes_{stream}{s}") for s in ("", "_coarse"))
        loss, new = calibration(
            [linear(fine.project, row) for row in peak],
            z, labels, fine_sets(z, c, labels), (1, 0.1, 0.5, 1), fine.prototypes.double().numpy(),
        )  # fmt: skip
        terms[f"{stream}_loss_prototype"] = loss / 5
        terms[f"{stream}_loss_diversity"] = spread(new) / 5
        moved[f"prototypes_{stream}"] = new
        loss, new = calibration(
            [linear(coarse.project, row) for row in peak],
            c, coarse_labels, coarse_sets(c, coarse_labels), (1, 1),
            coarse.prototypes.double().numpy(),
        )  # fmt: skip
        terms[f"{stream}_coarse_loss_prototype"] = loss / 5
        moved[f"prototypes_{stream}_coarse"] = new
    return terms, moved


# --- the batches ----------------------------------------------------------------------------


def build(**changes):
    torch.manual_seed(0)
    settings = dict(
        num_classes=K, in_channels=list(CHANNELS.values()), fine_to_coarse=PARENTS,
        loss_weights=WEIGHTS, prototype_channels=[4, 3], dropout=0.0, topk=(1,),
    )  # fmt: skip
    return PCANHead(**{**settings, **changes})


def batch(labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(CHANNELS["rgb"], 2, 3, 2), (CHANNELS["pose"], 4, 2, 2)]
    feats = [
        torch.randn(len(labels), *shape, generator=generator, dtype=torch.float64)
        for shape in shapes
    ]
    return feats, [ActionDataSample().set_gt_label(label) for label in labels]


def force(head, feats, labels, kind):
    """Make both classifiers read off the answer: all samples into one set."""
    wrong_in_family = {0: 1, 1: 0, 2: 0, 3: 4, 4: 3, 5: 6, 6: 5}
    for x, stream in zip(feats, ("rgb", "pose"), strict=True):
        pooled = x.mean(dim=(2, 3, 4))
        fine, coarse = torch.zeros(len(labels), K), torch.zeros(len(labels), KC)
        for i, label in enumerate(labels):
            right = kind in ("TP", "FN2")
            fine[i, label if right else wrong_in_family[label]] = 9.0
            family = PARENTS[label]
            coarse[i, family if kind in ("TP", "FN1") else (family + 1) % KC] = 9.0
        for name, target in ((f"fc_{stream}", fine), (f"fc_{stream}_coarse", coarse)):
            layer = getattr(head, name)
            layer.weight.data = torch.linalg.lstsq(pooled, target.double()).solution.T.contiguous()
            layer.bias.data.zero_()


def assert_equal_to_reference(head, feats, samples, labels):
    terms, moved = reference(head, feats, labels)
    found = head.loss(feats, samples)
    for name, value in terms.items():
        assert found[name].item() == pytest.approx(value, rel=1e-9, abs=1e-9), name
    assert {name for name in found if "loss" in name} == set(terms)
    for name, value in moved.items():
        np.testing.assert_allclose(getattr(head, name).prototypes.numpy(), value, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 2, K, 12])
def test_terms_and_prototypes_equal_the_loops(size, seed):
    labels = np.random.default_rng(seed).integers(0, K, size).tolist()
    head = build(prototype_seed=seed).double()
    feats, samples = batch(labels, seed)
    assert_equal_to_reference(head, feats, samples, labels)


@pytest.mark.parametrize("kind", ["TP", "FN1", "FN2", "FN3"])
def test_terms_with_every_sample_in_one_set(kind):
    labels = [0, 3, 5, 0, 6]
    head = build().double()
    feats, samples = batch(labels)
    force(head, feats, labels, kind)
    assert_equal_to_reference(head, feats, samples, labels)


def test_random_batches_reach_every_set():
    """The comparison above would prove little if a set were never filled."""
    reached = set()
    for seed in range(4):
        labels = np.random.default_rng(seed).integers(0, K, 12).tolist()
        head = build(prototype_seed=seed).double()
        feats, _ = batch(labels, seed)
        pooled = feats[0].mean(dim=(2, 3, 4))
        z, c = head.fc_rgb(pooled).tolist(), head.fc_rgb_coarse(pooled).tolist()
        reached |= set(fine_sets(z, c, labels))
    assert reached == {0, 1, 2, 3}


def test_several_steps_accumulate_in_the_prototypes():
    head = build().double()
    for seed in range(5):
        labels = np.random.default_rng(seed).integers(0, K, 9).tolist()
        feats, samples = batch(labels, seed)
        assert_equal_to_reference(head, feats, samples, labels)


def test_evaluation_does_not_move_the_prototypes():
    head = build().double().eval()
    before = head.prototypes_rgb.prototypes.clone()
    head.loss(*batch([0, 1, 2]))
    assert torch.equal(head.prototypes_rgb.prototypes, before)


@pytest.mark.parametrize("diversity_gradient", [False, True])
def test_gradients_equal_finite_differences(diversity_gradient):
    """Without its own gradient the diversity is a constant of the step, so it is left out."""
    labels = [0, 1, 3, 5, 0, 6]
    head = build(diversity_gradient=diversity_gradient).double()
    feats, samples = batch(labels)
    start = {name: value.clone() for name, value in head.state_dict().items()}
    leaves = [*feats, *head.parameters()]

    def total():
        head.load_state_dict({n: v for n, v in start.items() if n.endswith("prototypes")}, False)
        terms = head.loss(feats, samples)
        skip = () if diversity_gradient else ("rgb_loss_diversity", "pose_loss_diversity")
        return sum(v for n, v in terms.items() if "loss" in n and n not in skip)

    for leaf in leaves:
        leaf.requires_grad_()
    gradients = torch.autograd.grad(total(), leaves)
    picker = np.random.default_rng(0)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        flat, slope = leaf.detach().view(-1), gradient.reshape(-1)
        for index in picker.choice(len(flat), min(4, len(flat)), replace=False):
            value, step = flat[index].item(), 1e-6
            flat[index] = value + step
            above = total().item()
            flat[index] = value - step
            below = total().item()
            flat[index] = value
            assert slope[index].item() == pytest.approx((above - below) / (2 * step), abs=2e-7)


def test_rectified_scores_equal_the_loops():
    head = build(gamma=dict(rgb=5.0, pose=1.0)).double().eval()
    feats, _ = batch([0, 1, 2, 3])
    scores = head(feats)
    for stream, x, gamma in zip(("rgb", "pose"), feats, (5.0, 1.0), strict=True):
        bank = getattr(head, f"prototypes_{stream}")
        for i, pooled in enumerate(x.mean(dim=(2, 3, 4)).tolist()):
            plain = linear(getattr(head, f"fc_{stream}"), pooled)
            projected = linear(bank.project, pooled)
            for k in range(K):
                expected = plain[k] + gamma * cosine(projected, bank.prototypes[k].tolist())
                assert scores[stream][i, k].item() == pytest.approx(expected)
