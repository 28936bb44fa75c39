"""A receiver and a queue for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters.outbox import Outbox
from tests.notifications.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "notify.db") as made:
        yield made
