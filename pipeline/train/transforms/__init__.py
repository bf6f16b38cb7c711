"""Faster parts of the sample chain, drop-in for MMAction2's own.

Importing this package registers them, so that a config can name them
(`custom_imports = dict(imports=["pipeline.train.transforms"], allow_failed_imports=False)`).
`use_store` puts them into a config that was written without them.
"""

from pipeline.train.compat import prepare_mmaction

prepare_mmaction()

from pipeline.train.transforms.decode import PackDecode, fallbacks_of  # noqa: E402
from pipeline.train.transforms.heatmaps import PoseHeatmaps  # noqa: E402
from pipeline.train.transforms.joints import DrawJointsPreprocessor, ShipJoints  # noqa: E402
from pipeline.train.transforms.mirrored import MirroredToo  # noqa: E402
from pipeline.train.transforms.switch import use_spec, use_store  # noqa: E402

__all__ = [
    "DrawJointsPreprocessor",
    "MirroredToo",
    "PackDecode",
    "PoseHeatmaps",
    "ShipJoints",
    "fallbacks_of",
    "use_spec",
    "use_store",
]
