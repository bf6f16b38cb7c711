"""Errors of a sample's chain name the clip: which of 40,000 it was is the first question."""

from typing import Any, Dict

from mmengine.dataset import Compose

#: As data sets of MMAction2 call a clip, the most telling first.
NAMES = ("frame_dir", "filename", "img_path", "video_path", "frame_path")


class NamingCompose(Compose):
    """A chain whose errors name the clip; their kind, by which causes are distinguished, stays."""

    def __call__(self, data: Dict) -> Any:
        """Return the sample."""
        name = next((data[key] for key in NAMES if data.get(key)), None)
        try:
            return super().__call__(data)
        except Exception as error:
            # An OSError names its file, and its text does not come from its arguments.
            if name is not None and not isinstance(error, OSError):
                error.args = (f"clip {name}: {' '.join(str(error).split())[:500]}",)
            raise


def name_samples(dataset: Any) -> None:
    """Let errors of a data set's chain name the clip, also of those that it wraps.

    Chains of another class are left as they are.
    """
    for inner in [getattr(dataset, "dataset", None), *(getattr(dataset, "datasets", None) or ())]:
        if inner is not None:
            name_samples(inner)
    chain = getattr(dataset, "pipeline", None)
    if type(chain) is Compose:
        # The data set keeps its own chain: others change its steps in place.
        chain.__class__ = NamingCompose
