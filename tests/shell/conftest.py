"""Registries that have what a test of a site's cache asks for, until it says otherwise."""

from collections.abc import Iterator

import pytest

from tests.device.raw_http import Server, has, serving
from tests.shell.site_world import DATA, NAME


@pytest.fixture
def registry() -> Iterator[Server]:
    with serving() as server:
        server.answers[NAME] = has(DATA)
        yield server


@pytest.fixture
def second() -> Iterator[Server]:
    with serving() as server:
        server.answers[NAME] = has(DATA)
        yield server
