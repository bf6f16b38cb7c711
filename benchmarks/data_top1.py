"""Top-1 of a trained model on validation packs, against the same weights on the videos.

    python benchmarks/data_top1.py [--clips 30] [--epochs 6] [--out FILE]

Makes the drawn demo set, trains configs/pcan_demo.py on packs in one process, and validates twice:
by the stock chain from the videos, one sample at a time, and from the packs, 16 at a time with
shipped joints.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=30, help="of each of the 8 actions")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        record = measure(Path(work), options.clips, options.epochs)
    print(json.dumps(record, indent=1))
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def measure(work: Path, clips: int, epochs: int) -> dict:
    warnings.simplefilter("ignore")
    from pipeline.data.demo import make_demo
    from pipeline.data.prepare import plan, prepare
    from pipeline.data.sources import of_files

    make_demo(work / "demo", clips)
    sources = of_files(work / "demo" / "ann.pkl", work / "demo" / "videos", "train", "val")
    prepare(plan(work / "store", sources, "fine"), workers=1, max_bad=0)
    model = trained(config_of(work, stock=False, epochs=epochs))
    videos, labels = scores(model, config_of(work, stock=True, epochs=epochs), batch=1)
    packs, _ = scores(model, config_of(work, stock=False, epochs=epochs), batch=16)
    right = [
        sum(guess == label for guess, label in zip(found.argmax(1).tolist(), labels, strict=True))
        for found in (videos, packs)
    ]
    return {
        "clips": len(labels),
        "top1_videos_one_by_one": right[0] / len(labels),
        "top1_packs_in_batches": right[1] / len(labels),
        "same_predictions": bool((videos.argmax(1) == packs.argmax(1)).all()),
        "largest_difference_of_a_score": float((videos - packs).abs().max()),
    }


def config_of(work: Path, stock: bool, epochs: int):
    """Return the demo's config on the videos by the stock classes, or on the packs."""
    from mmengine.config import Config

    from pipeline.train.transforms import use_store

    config = Config.fromfile(ROOT / "configs" / "pcan_demo.py")
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(work / "demo")
        for step in loader.dataset.pipeline:
            if step.type == "PoseHeatmaps":
                step.type = "GeneratePoseTarget"
    if not stock:
        use_store(config, str(work / "store"))
    config.train_cfg.max_epochs = epochs
    config.param_scheduler[0].update(end=epochs, T_max=epochs)
    config.train_cfg.val_interval = epochs
    config.work_dir, config.log_level = str(work / "run"), "ERROR"
    config.randomness = {"seed": 0}
    config.default_hooks = {"checkpoint": None}
    return config


def trained(config):
    from mmengine.runner import Runner

    runner = Runner.from_cfg(config)
    return runner.train().eval()


def scores(model, config, batch: int):
    """Return the fused scores of all validation clips, (N, classes), and their labels."""
    import torch
    from mmaction.registry import DATASETS, MODELS
    from mmengine.dataset import pseudo_collate

    model.data_preprocessor = MODELS.build(config.model.data_preprocessor)
    data = DATASETS.build(config.val_dataloader.dataset)
    found, labels = [], []
    for start in range(0, len(data), batch):
        samples = [data[number] for number in range(start, min(start + batch, len(data)))]
        labels += [int(sample["data_samples"].gt_label) for sample in samples]
        with torch.no_grad():
            inputs = model.data_preprocessor(pseudo_collate(samples), False)
            predicted = model(**inputs, mode="predict")
        found += [sum(one.pred_score.values()) for one in predicted]
    return torch.stack(found), labels


if __name__ == "__main__":
    main()
