"""Hooks that stop, save or delete beside a job are left out wherever a config names them."""

import pytest

from pipeline.train.left_out import split_hooks
from pipeline.train.tools.resolve_config import replaced

EARLY = {"type": "mmengine.EarlyStoppingHook", "monitor": "acc", "patience": 1}
SAVER = {"type": "CheckpointHook", "save_best": "acc"}


@pytest.mark.parametrize(
    ("config", "gone"),
    [
        ({"default_hooks": {"early_stopping": EARLY}}, ["EarlyStoppingHook"]),
        ({"default_hooks": {"logger": EARLY}}, ["EarlyStoppingHook"]),
        ({"custom_hooks": [EARLY]}, ["EarlyStoppingHook"]),
        ({"custom_hooks": EARLY}, ["EarlyStoppingHook"]),
        ({"default_hooks": {"checkpoint": SAVER}}, []),
        ({"default_hooks": {"checkpoint": {"type": "Mine"}}}, ["Mine"]),
        ({"default_hooks": {"second": SAVER}, "custom_hooks": [SAVER]}, ["CheckpointHook"] * 2),
        (
            {"default_hooks": {"logger": {"type": "LoggerHook", "out_dir": "s3://x"}}},
            ["LoggerHook.out_dir"],
        ),
        (
            {"default_hooks": {"logger": {"type": "LoggerHook", "keep_local": False}}},
            ["LoggerHook.keep_local"],
        ),
        ({"default_hooks": {"timer": None}, "custom_hooks": None}, []),
    ],
)
def test_what_is_left_out_is_what_is_said(config, gone) -> None:
    default, custom, said = split_hooks(config)
    assert said == gone == replaced(config)["hooks"]
    left = [*default.values(), *custom]
    assert split_hooks({"default_hooks": default, "custom_hooks": custom})[2] == []
    assert not any(hook in left for hook in (EARLY, SAVER))
