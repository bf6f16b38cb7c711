"""Read the scores of a data set's clips, with one checkpoint or a mean of several.

A run directory's config is built once and serves many readings: other weights, more clips of each
video, mirrored copies.
"""

import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader

from pipeline.shared.files import write_bytes
from pipeline.shared.rundir import RunDir
from pipeline.shared.spec import TrialSpec
from pipeline.train import checkpoints, keep_predictions, runner_config, training_state
from pipeline.train.batch_statistics import measure_again
from pipeline.train.mean_weights import WeightSource, needs_statistics, put_mean
from pipeline.train.outcome import JobFailure
from pipeline.train.partial_scores import PartialScores
from pipeline.train.rank_process import pass_over_what_stands
from pipeline.train.test_views import ViewError, with_views
from pipeline.train.tools.tool import ToolError

#: Called with clips done and all clips.
Progress = Callable[[int, int], None]


class ScoreReader:
    """The model of one run directory, ready to read clips with any weights that fit it."""

    def __init__(self, folder: Path) -> None:
        self._rundir = RunDir(folder)
        spec = self._rundir.read_spec()
        if spec is None:
            raise ToolError(f"{self._rundir.spec} is missing.")
        self._spec: TrialSpec = spec
        self._work = tempfile.TemporaryDirectory()
        self._runner = self._build()
        self.model = training_state.bare_model(self._runner)
        self._loaded: Any = None

    def read(self, question: Dict[str, Any], progress: Progress) -> float:
        """Read all clips and write their scores to `question["out"]`; return the top-1.

        Args:
            question: `weights` (as `WeightSource`), `mean` (where a mean of weights is kept, or
                null), `epoch`, `split`, `clips`, `flip`, `out`.

        Raises:
            ToolError: weights do not fit, the clips cannot be shown so, or scores not be kept.
        """
        config = self._config()
        try:
            with_views(config, question["split"], question["clips"], question["flip"])
        except ViewError as error:
            raise ToolError(f"{error}.") from error
        self._from_store(config)
        self._load(question)
        out = Path(question["out"])
        partial = PartialScores(RunDir.part_of(out))
        dataset = self._read_clips(config, question["split"], partial, progress)
        clips = partial.clips
        top1 = sum(clip.predicted == clip.label for clip in clips) / len(clips)
        ids = keep_predictions.clip_ids(dataset, [clip.label for clip in clips])
        metric = str(self._spec.metric)
        kept = keep_predictions.clip_scores(question["epoch"], metric, top1, ids, dataset, clips)
        if kept is None:
            raise ToolError("the scores of this model are not finite, or not of one form.")
        write_bytes(out, kept.to_bytes())
        partial.remove()
        return top1

    def _config(self) -> Config:
        return Config.fromfile(str(self._rundir.config))

    def _from_store(self, config: Config) -> None:
        """Read from the trial's store where it can show these views, and fit the loaders."""
        try:
            runner_config.read_from_store(config, self._spec)
        except JobFailure as failure:
            raise ToolError(failure.reason) from failure

    def _build(self) -> Runner:
        try:
            config = runner_config.job_config(self._rundir, self._spec, False)
        except JobFailure as failure:
            raise ToolError(failure.reason) from failure
        config.work_dir = self._work.name
        # A reading logs nothing and saves nothing.
        config.custom_hooks, config.visualizer = [], None
        pass_over_what_stands()
        runner = Runner.from_cfg(config)
        runner.train_loop  # noqa: B018  (statistics are measured on its clips)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        # A model may ask where its training is; RuntimeInfoHook sets that only in a run.
        for name in ("epoch", "iter"):
            runner.message_hub.update_info(name, 0)
        return runner

    def _load(self, question: Dict[str, Any]) -> None:
        """Put the weights into the model; a mean is made once and kept in a file."""
        if question["weights"] == self._loaded:
            return
        self._loaded = None
        sources = [WeightSource.from_json(one) for one in question["weights"]]
        mean: Optional[str] = question.get("mean")
        if not needs_statistics(sources):
            put_mean(self.model, sources)
        elif mean is not None and Path(mean).is_file():
            content = torch.load(mean, map_location="cpu", weights_only=True)
            self.model.load_state_dict(content["state_dict"], strict=True)
        else:
            put_mean(self.model, sources)
            measure_again(self._runner, self.model, int(self._runner.seed))
            if mean is not None:
                state = {"state_dict": self.model.state_dict()}
                checkpoints.write(Path(mean), checkpoints.plain(state))
        self._loaded = question["weights"]

    def _read_clips(
        self, config: Config, split: str, partial: PartialScores, progress: Progress
    ) -> Any:
        """Read the clips that are lacking; return the data set."""
        loader_config = config[f"{split}_dataloader"]
        built = self._runner.build_dataloader(loader_config, seed=int(self._runner.seed))
        dataset = keep_predictions.in_order(built)
        total, start = len(dataset), len(partial.clips)
        workers = built.num_workers if total - start > 4 * (built.batch_size or 1) else 0
        rest: Any = range(start, total)
        loader: Any = DataLoader(
            dataset,
            batch_size=built.batch_size,
            sampler=rest,
            num_workers=workers,
            collate_fn=built.collate_fn,
        )
        stream = keep_predictions.stream_of(str(self._spec.metric))
        fp16 = bool((config.get(f"{split}_cfg") or {}).get("fp16"))
        self.model.eval()
        self._watch(loader, partial, stream, fp16, lambda: progress(len(partial.clips), total))
        return dataset

    def _watch(
        self,
        loader: Any,
        partial: PartialScores,
        stream: str,
        fp16: bool,
        tell: Callable[[], None],
    ) -> None:
        reported = 0.0
        for batch in loader:
            with torch.no_grad(), autocast(enabled=fp16):
                samples: List[Any] = list(self.model.val_step(batch))
            try:
                partial.add(keep_predictions.read_clips(samples, stream))
            except keep_predictions.Unreadable as problem:
                raise ToolError(f"{problem}.") from problem
            if time.monotonic() - reported > 0.5:
                reported = time.monotonic()
                tell()
