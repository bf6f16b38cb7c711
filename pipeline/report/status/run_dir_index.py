"""Which run directories are seen from here: asked once a folder, not once a trial."""

import os
from pathlib import Path


class RunDirIndex:
    """The run directories below a project.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._names: dict[str, frozenset[str]] = {}

    def has(self, run_dir: str | None) -> bool:
        """Return whether a run directory, as the storage names it, is there."""
        if run_dir is None:
            return False
        parent, _, name = run_dir.rpartition("/")
        if parent not in self._names:
            try:
                self._names[parent] = frozenset(os.listdir(os.path.join(self._root, parent)))
            except OSError:
                self._names[parent] = frozenset()
        return name in self._names[parent]
