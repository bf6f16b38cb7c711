"""PCAN for MMAction2: importing this module registers its backbone, head and metric.

A config needs nothing else: `custom_imports = dict(imports=['pipeline.train.model'])`.
"""

from pipeline.train.compat import prepare_mmaction

prepare_mmaction()

from pipeline.train.model.backbone import PCANBackbone  # noqa: E402
from pipeline.train.model.ensemble import RatioAccMetric, ScoreEnsemble  # noqa: E402
from pipeline.train.model.head import CoarseAccMetric, PCANHead  # noqa: E402

__all__ = ["CoarseAccMetric", "PCANBackbone", "PCANHead", "RatioAccMetric", "ScoreEnsemble"]
