"""Faster parts of the sample chain, drop-in for MMAction2's own.

Importing this package registers them, so that a config can name them
(`custom_imports = dict(imports=['pipeline.train.transforms'], allow_failed_imports=False)`).
"""

from pipeline.train.transforms.heatmaps import PoseHeatmaps

__all__ = ["PoseHeatmaps"]
