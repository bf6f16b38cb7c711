"""Here the rehearsal is what is tested: a command starts its own child for it."""

from collections.abc import Iterator

import pytest

from tiny_project import Project


@pytest.fixture(scope="module", autouse=True)
def each_command_rehearses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Project, "ahead", False)
        yield
