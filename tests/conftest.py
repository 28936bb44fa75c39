"""Settings for all tests: the same examples on every run, so that a red build is red again when it is looked at."""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
gc.disable()  # until everything is imported and collected, of which nothing is garbage


def pytest_collection_finish() -> None:
    """Look for garbage among what tests make, and not each time among all that was collected."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_broker() -> Iterator[None]:
    """Forget with each test whom a command has made of this process: ``--client`` holds for what it starts too."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("TIDEGATE_")}
    yield
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        del os.environ[name]
    os.environ.update(kept)
