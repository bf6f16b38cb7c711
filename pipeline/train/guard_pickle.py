"""Have a job read annotations without running what a pickle may contain.

MMAction2's data sets read `.pkl` files by `mmengine.load`, which runs whatever the file names.
Inside our jobs and tools that function is given a reader that knows plain data and NumPy arrays
only. What a data set of the user's own unpickles by itself is the user's code.
"""

from typing import Any

from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler

from pipeline.shared.safe_pickle import PlainUnpickler, UnsafePickle


def read_plain_pickles() -> None:
    """Register the reader for `.pkl` and `.pickle`; safe to repeat."""
    register_handler(["pkl", "pickle"])(PlainPickleHandler)


class PlainPickleHandler(PickleHandler):
    """MMEngine's handler but for how a file is loaded; writing stays as it is."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        try:
            return PlainUnpickler(file, **kwargs).load()
        except UnsafePickle as error:
            raise UnsafePickle(
                f"the annotation is refused: {error}, which none needs and which could run code"
            ) from error
