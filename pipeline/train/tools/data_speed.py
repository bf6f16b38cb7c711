"""Measures a config's sample chain by stage: `python -m pipeline.train.tools.data_speed`.

Asks `{"config", "data_root", "store": folder or null, "samples": n}`, answers
`{"chains": {"stock": {"stages": {step: ms}, "cpu_ms": ms}, "prepared": {...}}, "clips": n}`.
CPU time of this process, one thread.
"""

import random
import statistics
import sys
import time
import warnings
from typing import Any, Dict, Optional

from pipeline.train.compat import prepare_mmaction, read_plain_pickles
from pipeline.train.tools.tool import ToolError, serve

LOADER = "train_dataloader"


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    """Draw the same samples by the config's own chain and, with a store, by the packs."""
    warnings.simplefilter("ignore")
    prepare_mmaction()
    read_plain_pickles()
    import cv2
    import torch
    from mmaction.utils import register_all_modules

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    register_all_modules()
    chains, clips = {}, 0
    for name, store in (("video", None), ("prepared", question.get("store"))):
        if name == "video" or store:
            chains[name], clips = measure(question, store)
    return {"chains": chains, "clips": clips}


def measure(question: Dict[str, Any], store: Optional[str]) -> Any:
    """Return one chain's stages and sum, and how many clips its loader has."""
    import numpy as np
    from mmaction.registry import DATASETS
    from mmengine.config import Config

    from pipeline.shared.store import StoreError
    from pipeline.train.transforms import use_store

    config = Config.fromfile(question["config"])
    place(config, question.get("data_root"))
    if store:
        try:
            use_store(config, store)
        except StoreError as error:
            raise ToolError(str(error)) from error
    data = DATASETS.build(config[LOADER].dataset)
    stages: Dict[str, list] = {}
    for number in range(question["samples"] + 1):
        np.random.seed(number), random.seed(number)
        sample = data.get_data_info(number % len(data))
        for step in data.pipeline.transforms:
            start = time.process_time()
            sample = step(sample)
            spent = 1e3 * (time.process_time() - start)
            if number:  # the first one warms up
                stages.setdefault(type(step).__name__, []).append(spent)
    sums = [sum(parts) for parts in zip(*stages.values())]
    return {
        "stages": {name: round(statistics.median(ms), 3) for name, ms in stages.items()},
        "cpu_ms": round(statistics.median(sums), 3),
    }, len(data)


def place(config: Any, root: Optional[str]) -> None:
    """Move the training loader's paths to this machine's data."""
    if root is None:
        return
    dataset, old = config[LOADER].dataset, config.get("data_root")
    for key in ("data_root", "ann_file"):
        if isinstance(dataset.get(key), str):
            dataset[key] = moved(dataset[key], old, root)
    for key, prefix in (dataset.get("data_prefix") or {}).items():
        dataset.data_prefix[key] = moved(prefix, old, root)


def moved(path: str, old: Any, new: str) -> str:
    """Return a path below `old` as the same path below `new`; others as they are."""
    below = old.rstrip("/") if isinstance(old, str) else None
    if below and (path.rstrip("/") == below or path.startswith(below + "/")):
        return new.rstrip("/") + path[len(below) :]
    return path


if __name__ == "__main__":
    sys.exit(serve(answer))
