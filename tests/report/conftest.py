"""One browser for all tests of pages."""

import pytest

import browser as support


@pytest.fixture(scope="session")
def browser():
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    yield from support.started()
