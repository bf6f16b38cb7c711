"""Does a head's loss train the labels that the loader gave, whatever else is in the batch?

One sample's features are repeated, so that the samples of a batch differ in their labels only. The
gradient of a loss term at one sample's features is then a fingerprint of the label that the term
trains there. It is compared between batches: where the fingerprint of label 5 becomes that of
label 4 once no sample has label 0, the term depends on the other labels. And a small step against
the gradient has to raise the score of the label itself, not of its neighbour.

A term that depends on the batch in another way (prototypes, contrastive losses) gives no other
label's fingerprint, and says nothing here. Works on any head with a `loss`; what cannot be tried
says nothing either.
"""

import copy
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

#: Cosine from which on two fingerprints are the same, and up to which they are different.
SAME, DIFFERENT = 0.9999, 0.99
#: Entries of a sample's features that make its fingerprint; drawn once, always the same.
ENTRIES = 8192
#: Share of its length by which features are moved.
STEP = 0.01
#: Labels of a batch with small features, and with the model's own.
MANY_LABELS, FEW_LABELS = 24, 10
#: A shift has to show in this share of the labels tried.
SHIFTED = 0.8
#: Lead of the score that rises most over the next one, as a share of its rise.
PLAIN = 0.3
#: Labels that a sentence names.
_NAMED = 4
_WHERE = 'See docs/model.md, "Labels that the loss changes".'


class HeadCall(NamedTuple):
    """How a model called its head's loss for one sample."""

    head: Any
    args: Tuple[Any, ...]
    kwargs: Dict[str, Any]


class Fingerprints(NamedTuple):
    """One loss term in one batch: a unit vector a sample, and which samples have one."""

    rows: Tensor
    known: Tensor


class _Reached(Exception):
    """Ends the model's own forward at its head."""


class LabelProbe:
    """Probes the heads of several configs; heads that differ in loss weights only once."""

    def __init__(self) -> None:
        self._known: Dict[str, List[str]] = {}

    def remarks(self, cfg: Any, model: Any, batch: Any) -> List[str]:
        """Return what the probe says of a config's head; see `label_remarks`."""
        asked = dict(cfg.model.get("cls_head") or {})
        asked.pop("loss_weights", None)  # they scale terms, and variants differ in them
        key = repr(sorted(asked.items(), key=str))
        if key not in self._known:
            self._known[key] = label_remarks(model, batch)
        return self._known[key]


def label_remarks(model: Any, batch: Any) -> List[str]:
    """Return a sentence for each way in which the head's loss changes labels.

    Args:
        batch: one collated sample, before the data preprocessor.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the parts are small; threads would only wait for each other
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return list(_remarks(model, batch))
    except Exception:  # a head of any kind; a probe that cannot be made says nothing
        return []
    finally:
        torch.set_num_threads(threads)


def _remarks(model: Any, batch: Any) -> Iterator[str]:
    call = head_call(model, batch)
    classes = getattr(getattr(model, "cls_head", None), "num_classes", None)
    if call is None or not isinstance(classes, int) or classes < 3:
        return
    call, most = small_enough(call)
    tried = labels_tried(classes, most)
    full = fingerprints(call, tried)
    again = fingerprints(call, tried)
    steady = {t: f for t, f in full.items() if _same(f, again.get(t))}
    seen: List[str] = []
    for words, labels in contexts(tried, classes):
        changed = fingerprints(call, labels)
        moved = {
            term: relabelled(one, tried, changed[term], labels)
            for term, one in steady.items()
            if term in changed and term not in seen
        }
        new = [term for term, pairs in moved.items() if pairs]
        if new:
            yield (
                f"the head's loss depends on which other labels are in the batch: {words} "
                f"{_pairs(moved[new[0]])} ({_terms(new)}). {_WHERE}"
            )
        seen += new
    yield from _shifts(call, tried, [term for term in steady if term not in seen])


def head_call(model: Any, batch: Any) -> Optional[HeadCall]:
    """Return how the model calls its head's loss for this batch, None if it has no such head."""
    head: Any = getattr(model, "cls_head", None)
    if not callable(getattr(head, "loss", None)):
        return None
    reached: List[HeadCall] = []

    def stop(*args: Any, **kwargs: Any) -> None:
        reached.append(HeadCall(head, args, kwargs))
        raise _Reached

    model.eval()
    head.loss = stop
    try:
        with torch.no_grad():
            data = model.data_preprocessor(copy.deepcopy(batch), False)
            model._run_forward(data, mode="loss")
    except _Reached:
        pass
    finally:
        del head.loss
    return reached[0] if reached else None


def small_enough(call: HeadCall) -> Tuple[HeadCall, int]:
    """Return the call with small features, and how many labels a batch of it may have.

    Most heads average over space, so a corner of four places does.
    """
    args = tuple(_corner(arg) for arg in call.args)
    small = HeadCall(call.head, args, {name: _corner(arg) for name, arg in call.kwargs.items()})
    try:
        _loss(small, [0, 1])
    except Exception:  # a head with places of its own
        return call, FEW_LABELS
    return small, MANY_LABELS


def _corner(value: Any) -> Any:
    if torch.is_tensor(value) and value.dim() >= 4:
        return value[..., :2, :2]
    if isinstance(value, (list, tuple)):
        return type(value)([_corner(one) for one in value])
    return value


def labels_tried(classes: int, most: int) -> List[int]:
    """Return all labels, or of many classes pairs of neighbours over the whole range."""
    if classes <= most:
        return list(range(classes))
    pairs = most // 2
    spots = [round(i * (classes - 2) / (pairs - 1)) for i in range(pairs)]
    return sorted({label for spot in spots for label in (spot, spot + 1)})


def contexts(tried: Sequence[int], classes: int) -> Iterator[Tuple[str, List[int]]]:
    """Yield batches that lack some labels: in words, and their labels."""
    half = classes // 2
    yield "in a batch without label 0", [y for y in tried if y != 0]
    yield f"in a batch without label {classes - 1}", [y for y in tried if y != classes - 1]
    yield f"in a batch of labels below {half}", [y for y in tried if y < half]
    yield f"in a batch of labels from {half} on", [y for y in tried if y >= half]


def fingerprints(call: HeadCall, labels: Sequence[int]) -> Dict[str, Fingerprints]:
    """Return each loss term's fingerprints in a batch of these labels, in their order."""
    terms, leaves, _ = _loss(call, labels)
    batch = len(_not_as_many_as_classes(labels, call.head.num_classes))
    return {
        term: _fingerprints(_gradients(value, leaves), batch, len(labels))
        for term, value in terms.items()
    }


def _loss(
    call: HeadCall, labels: Sequence[int]
) -> Tuple[Dict[str, Tensor], List[Tensor], List[Tensor]]:
    """Return a batch's terms, the features they depend on, and outputs of one number a class."""
    head = copy.deepcopy(call.head).eval()
    outputs: List[Tensor] = []
    for part in head.modules():
        part.register_forward_hook(lambda _part, _inputs, made: outputs.append(made))
    leaves: List[Tensor] = []
    labels = _not_as_many_as_classes(labels, head.num_classes)
    args = [_batched(arg, labels, leaves) for arg in call.args]
    kwargs = {name: _batched(arg, labels, leaves) for name, arg in call.kwargs.items()}
    terms = head.loss(*args, **kwargs)
    sums: Dict[str, Any] = {
        name: sum(value) if isinstance(value, (list, tuple)) else value
        for name, value in terms.items()
        if "loss" in name
    }
    usable = {n: v.sum() for n, v in sums.items() if torch.is_tensor(v) and v.requires_grad}
    named = [o for o in outputs if torch.is_tensor(o) and o.requires_grad and o.dim() > 1]
    return usable, leaves, [o for o in named if o.shape[1] == head.num_classes]


def _not_as_many_as_classes(labels: Sequence[int], classes: int) -> List[int]:
    """Return the labels, one of them twice if some heads would take them for one soft label."""
    return [*labels, labels[0]] if len(labels) in (1, classes) else list(labels)


def _batched(value: Any, labels: Sequence[int], leaves: List[Tensor]) -> Any:
    """Return an argument for as many samples: features repeated, samples with these labels."""
    if torch.is_tensor(value) and value.is_floating_point():
        leaf = torch.cat([value.detach()] * len(labels)).requires_grad_()
        leaves.append(leaf)
        return leaf
    if isinstance(value, (list, tuple)) and value and _label_of(value[0]) is not None:
        return [_labelled(value[0], label) for label in labels]
    if isinstance(value, (list, tuple)):
        return type(value)([_batched(one, labels, leaves) for one in value])
    if isinstance(value, dict):
        return {name: _batched(one, labels, leaves) for name, one in value.items()}
    return value


def _label_of(sample: Any) -> Any:
    """Return the tensor that holds a sample's one class, None if it is not one."""
    label: Any = getattr(sample, "gt_label", None)
    if label is None:  # MMAction2 up to 1.1
        label = getattr(getattr(sample, "gt_labels", None), "item", None)
    return label if torch.is_tensor(label) and label.numel() == 1 else None


def _labelled(sample: Any, label: int) -> Any:
    made = copy.deepcopy(sample)
    _label_of(made).fill_(label)
    return made


def _gradients(term: Tensor, leaves: Sequence[Tensor]) -> List[Tensor]:
    found = torch.autograd.grad(term, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves)]


def _fingerprints(gradients: Sequence[Tensor], batch: int, first: int) -> Fingerprints:
    """Return the fingerprints of the first samples of a batch, which may have rows a segment."""
    parts = []
    for gradient in gradients:
        flat = gradient.reshape(batch, -1)[:first]
        draw = torch.Generator().manual_seed(flat.shape[1])
        chosen = torch.randperm(flat.shape[1], generator=draw)[:ENTRIES]
        parts.append(flat[:, chosen.to(flat.device)].double())
    rows = torch.cat(parts, dim=1)
    length = rows.norm(dim=1, keepdim=True)
    return Fingerprints(rows / length.clamp_min(1e-300), length[:, 0] > 1e-12)


def _same(one: Fingerprints, other: Optional[Fingerprints]) -> bool:
    if other is None or one.rows.shape != other.rows.shape:
        return False
    alike = (one.rows * other.rows).sum(dim=1) >= SAME
    return bool((alike | ~one.known).all()) and bool(one.known.any())


def relabelled(
    full: Fingerprints, tried: Sequence[int], found: Fingerprints, labels: Sequence[int]
) -> Dict[int, int]:
    """Return by label the one whose fingerprint it has in another batch; empty if it is chance.

    Args:
        full: fingerprints of the labels `tried`, together in one batch.
        found: those of `labels`, in a batch that lacks some.
    """
    alike = found.rows @ full.rows.T
    moved = {}
    for row, label in enumerate(labels):
        own = tried.index(label)
        other = int(alike[row].argmax())
        known = bool(found.known[row]) and bool(full.known[own])
        if known and alike[row, own] <= DIFFERENT and alike[row, other] >= SAME:
            moved[label] = tried[other]
    return moved if len(moved) >= 2 else {}


def _shifts(call: HeadCall, tried: Sequence[int], terms: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each shift by which terms raise another class than the label."""
    found: Dict[int, List[str]] = {}
    for term, rises in _rises(call, tried, terms):
        shift = shift_of(rises[: len(tried)], tried)
        if shift:
            found.setdefault(shift, []).append(term)
    for shift, shifted in found.items():
        yield (
            f"the head's loss trains label {'+' if shift > 0 else '-'} {abs(shift)} in place of "
            f"the label ({_terms(list(dict.fromkeys(shifted)))}). {_WHERE}"
        )


def _rises(
    call: HeadCall, tried: Sequence[int], terms: Sequence[str]
) -> Iterator[Tuple[str, Tensor]]:
    """Yield for each term and stream how a step down the loss moves each class's score: (N, K).

    By the gradient at the classifiers' outputs; of a head without such outputs by its predictions.
    """
    losses, leaves, outputs = _loss(call, tried)
    batch = len(_not_as_many_as_classes(tried, call.head.num_classes))
    before = {} if outputs else _scores(call, leaves, batch)
    for term in terms:
        for gradient in _gradients(losses[term], outputs) if outputs else ():
            places = gradient.reshape(*gradient.shape[:2], -1).sum(dim=2)
            yield term, -places.reshape(batch, -1, places.shape[1]).sum(dim=1)
        if not outputs:
            moved = [_moved(x, g) for x, g in zip(leaves, _gradients(losses[term], leaves))]
            after = _scores(call, moved, batch)
            yield from ((term, after[stream] - before[stream]) for stream in before)


def _moved(features: Tensor, gradient: Tensor) -> Tensor:
    """Return features a small step down the loss."""
    across = tuple(range(1, features.dim()))
    length = gradient.pow(2).sum(dim=across, keepdim=True).sqrt().clamp_min(1e-300)
    size = features.detach().pow(2).sum(dim=across, keepdim=True).sqrt()
    return features.detach() - STEP * size * gradient / length


def _scores(call: HeadCall, features: Sequence[Tensor], batch: int) -> Dict[str, Tensor]:
    """Return what the head predicts from these features, in logarithms, by stream: (N, K)."""
    head, left = copy.deepcopy(call.head).eval(), list(features)
    labels = [0] * batch
    args = [_replaced(_batched(arg, labels, []), left) for arg in call.args]
    kwargs = {n: _replaced(_batched(arg, labels, []), left) for n, arg in call.kwargs.items()}
    with torch.no_grad():
        samples = head.predict(*args, **kwargs)
    streams = [_by_stream(sample) for sample in samples]
    return {name: torch.stack([one[name] for one in streams]) for name in streams[0]}


def _replaced(value: Any, left: List[Tensor]) -> Any:
    """Return an argument with the next of the features left in place of each tensor of it."""
    if torch.is_tensor(value) and value.is_floating_point():
        return left.pop(0)
    if isinstance(value, (list, tuple)) and value and _label_of(value[0]) is None:
        return type(value)([_replaced(one, left) for one in value])
    if isinstance(value, dict):
        return {name: _replaced(one, left) for name, one in value.items()}
    return value


def _by_stream(sample: Any) -> Dict[str, Tensor]:
    found = sample.pred_score if "pred_score" in sample else sample.pred_scores
    found = found.to_dict() if hasattr(found, "to_dict") else found
    named = found if isinstance(found, dict) else {"": found}
    return {name: _logarithm(score.double()) for name, score in named.items()}


def _logarithm(score: Tensor) -> Tensor:
    score = score.reshape(-1, score.shape[-1]).mean(dim=0)  # over views that are not averaged
    shares = bool((score >= 0).all()) and abs(float(score.sum()) - 1) < 1e-3
    return score.clamp_min(1e-300).log() if shares else score


def shift_of(rises: Tensor, labels: Sequence[int]) -> int:
    """Return by how much the class whose score rises most differs from the label, alike in most.

    Args:
        rises: of each class's score, a row a label: (labels, K).
    """
    moved = [int(rise.argmax()) - y for rise, y in zip(rises, labels) if _is_plain(rise)]
    usual = max(sorted(set(moved)), key=moved.count, default=0)
    possible = sum(0 <= label + usual < rises.shape[1] for label in labels)
    return usual if usual and moved.count(usual) >= max(3, SHIFTED * possible) else 0


def _is_plain(rise: Tensor) -> bool:
    """Whether one class's score rises by far the most."""
    first, second = rise.topk(2).values.tolist()
    usual = float(rise.median())
    return first - usual > 1e-9 and first - second >= PLAIN * (first - usual)


def _pairs(moved: Dict[int, int]) -> str:
    named = list(moved.items())[:_NAMED]
    more = ", ..." if len(moved) > _NAMED else ""
    pairs = ", ".join(f"{label} as {other}" for label, other in named)
    return f"it trains label {pairs}{more}"


def _terms(terms: Sequence[str]) -> str:
    return ", ".join(terms[:_NAMED]) + (", ..." if len(terms) > _NAMED else "")
