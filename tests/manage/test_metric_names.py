"""Which metric a plan is judged by, from what a config says of its evaluator and its hooks."""

import pytest

from pipeline.errors import InputError
from pipeline.manage.metric_names import MetricNames, evaluated, objective
from pipeline.train.tools.resolve_config import facts

STREAMS = {"cls_head": {"type": "RGBPoseHead"}}
COARSE = {"cls_head": {"type": "OwnHead", "loss_components": ["rgb", "pose", "rgb_coarse"]}}


def known(evaluator: object, model: object = None) -> MetricNames:
    return evaluated(facts({"val_evaluator": evaluator, "model": model or {}}))


@pytest.mark.parametrize("evaluator", [{"type": "AccMetric"}, [{"type": "mmaction.AccMetric"}]])
def test_accuracy_of_one_prediction_has_three_names(evaluator) -> None:
    assert known(evaluator) == MetricNames(
        names=["acc/top1", "acc/top5", "acc/mean1"], all_known=True
    )


@pytest.mark.parametrize("model", [STREAMS, COARSE])
def test_accuracy_of_two_streams_has_their_names_and_their_sums(model) -> None:
    names = known({"type": "AccMetric", "prefix": "准确率"}, model).names
    assert {"准确率/rgb_top1", "准确率/pose_top1", "准确率/RGBPose_1:1_top1"} <= {*names}
    assert len(names) == 15


def test_what_the_evaluator_is_asked_for_is_named_and_what_is_not_known_is_said() -> None:
    options = {"top_k_accuracy": {"topk": (1,)}}
    one = {"type": "AccMetric", "metric_list": "top_k_accuracy", "metric_options": options}
    assert known(one) == MetricNames(names=["acc/top1"], all_known=True)
    listed = {"type": "AccMetric", "metric_list": ("top_k_accuracy", "f1_score")}
    assert known(listed) == MetricNames(names=["acc/top1", "acc/top5"], all_known=False)
    assert known([{"type": "AccMetric"}, {"type": "OwnMetric"}]).all_known is False
    assert known({"type": "OwnMetric"}) == MetricNames(names=[], all_known=False)


def watching(best=None, stop=None, rule=None, where="custom_hooks") -> dict:
    hook = {"type": "EarlyStoppingHook", "monitor": stop}
    hooks = {"checkpoint": {"type": "CheckpointHook", "save_best": best, "rule": rule}}
    if where == "default_hooks":
        return facts({"default_hooks": {**hooks, "early": hook}})
    return facts({"default_hooks": hooks, "custom_hooks": [hook]})


TOP1 = MetricNames(names=["acc/top1", "acc/top5", "acc/mean1"], all_known=True)
UNKNOWN = MetricNames(names=[], all_known=False)


@pytest.mark.parametrize(
    ("watched", "names", "chosen"),
    [
        (watching("auto"), TOP1, "acc/top1"),
        (watching("acc/mean1"), TOP1, "acc/mean1"),
        (watching(None, "acc/mean1", where="default_hooks"), TOP1, "acc/mean1"),
        (watching(["own/mean", "own/upper"], rule=["greater", "greater"]), UNKNOWN, "own/mean"),
        (watching(["loss", "own/top1"], rule=["less", "greater"]), UNKNOWN, "own/top1"),
    ],
)
def test_a_plan_is_judged_by_what_the_config_saves_its_best_by(watched, names, chosen) -> None:
    assert objective(watched, names, None) == (chosen, [])


def test_a_watched_name_that_no_validation_gives_is_not_taken_and_said() -> None:
    chosen, [note] = objective(watching("auto", "val/top1_acc"), TOP1, None)
    assert chosen == "acc/top1" and 'watches "val/top1_acc", which its validation does not' in note


def test_a_loss_or_an_error_is_never_proposed() -> None:
    errors = MetricNames(names=["mpjpe", "val_loss"], all_known=True)
    with pytest.raises(InputError, match="none is an accuracy, by its name.*--metric NAME"):
        objective({}, errors, None)
    other = MetricNames(names=["loss", "own_accuracy"], all_known=True)
    assert objective({}, other, None)[0] == "own_accuracy"


def test_what_only_a_scheduler_waits_for_is_no_objective() -> None:
    waiting = facts({"param_scheduler": {"type": "ReduceOnPlateauLR", "monitor": "loss"}})
    with pytest.raises(InputError, match=r"are not known.*--metric NAME.*--log WORKDIR"):
        objective(waiting, UNKNOWN, None)
