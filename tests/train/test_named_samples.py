"""An error of the sample chain names the clip, and stays of its kind."""

import pytest
from mmengine.dataset import BaseDataset, Compose, RepeatDataset
from torch.utils.data import DataLoader

from pipeline.train.fit_loaders import name_samples
from pipeline.train.outcome import classify_error


class Clips(BaseDataset):
    def load_data_list(self):
        return [{"frame_dir": f"S001C00{n}", "keypoint": n} for n in range(3)]


class Raise:
    """A step that cannot take the second clip."""

    def __init__(self, error):
        self.error = error

    def __call__(self, results):
        if results["frame_dir"].endswith("1"):
            raise self.error
        return results


ERRORS = [
    ValueError("joints (2, 3) do not\n  broadcast"),
    KeyError("keypoint"),
    RuntimeError("decord: cannot read frame 3"),
    IndexError(),
    AssertionError("a", "b"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("wrap", [False, True])
def test_the_clip_is_named_and_the_kind_stays(error: Exception, wrap: bool) -> None:
    dataset = Clips(pipeline=[Raise(type(error)(*error.args))])
    name_samples(RepeatDataset(dataset, 2) if wrap else dataset)
    assert dataset[0]["frame_dir"] == "S001C000"
    with pytest.raises(type(error), match="clip S001C001: ") as caught:
        dataset[1]
    assert "\n" not in str(caught.value)


def test_the_reason_of_a_job_names_the_clip_also_from_a_loaders_process() -> None:
    dataset = Clips(pipeline=[Raise(ValueError("no such joint"))])
    name_samples(dataset)
    for workers in (0, 1):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  its text is looked at below
            list(DataLoader(dataset, num_workers=workers, batch_size=None))
        failure = classify_error(caught.value, "train")
        assert failure is not None and "clip S001C001: no such joint" in failure.reason


def test_an_error_of_the_file_system_is_left_as_it_is() -> None:
    dataset = Clips(pipeline=[Raise(OSError(28, "No space left on device", "/x"))])
    name_samples(dataset)
    with pytest.raises(OSError, match="No space left") as caught:
        dataset[1]
    assert (caught.value.errno, caught.value.filename) == (28, "/x")


def test_a_chain_of_another_class_is_left_alone() -> None:
    class Own(Compose):
        pass

    dataset = Clips(pipeline=[])
    dataset.pipeline = Own([])
    name_samples(dataset)
    assert type(dataset.pipeline) is Own
    name_samples([1, 2])
