"""Show a clip together with its mirrored copy, as two clips of one video."""

import copy
from typing import Any, Dict, Optional, Sequence

import numpy as np
from mmaction.datasets.transforms import Flip
from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform


@TRANSFORMS.register_module()
class MirroredToo(BaseTransform):
    """Append the mirrored clips to a sample's clips; the head then averages over both.

    The copy is what `Flip` makes of the sample in training. It stands before the steps that make
    tensors.

    Args:
        left_kp, right_kp: joints that change places, as `Flip` has them.
    """

    def __init__(
        self, left_kp: Optional[Sequence[int]] = None, right_kp: Optional[Sequence[int]] = None
    ) -> None:
        self._flip = Flip(flip_ratio=1, left_kp=left_kp, right_kp=right_kp)

    def transform(self, results: Dict[str, Any]) -> Dict[str, Any]:
        """Return the sample with twice its clips: pictures in a list, joints along time."""
        # What is not mirrored (file names, labels) need not be copied.
        other = dict(results)
        for key in ("imgs", "keypoint", "keypoint_score"):
            if key in results:
                other[key] = copy.deepcopy(results[key])
        other = self._flip.transform(other)
        if "imgs" in results:
            results["imgs"] = [*results["imgs"], *other["imgs"]]
        for key in ("keypoint", "keypoint_score"):  # (M, T, V, 2) and (M, T, V)
            if key in results:
                results[key] = np.concatenate([results[key], other[key]], axis=1)
        results["num_clips"] = 2 * results.get("num_clips", 1)
        return results
