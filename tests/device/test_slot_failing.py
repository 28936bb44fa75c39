"""A slot that could not be made durable: after a power cut no marker says of it what is not so."""

import os
from pathlib import Path
from random import Random

import pytest

from device_client.adapters.failure import StepError
from device_client.adapters.layout import MARKER
from device_client.adapters.slots import Slots
from tests.device.crash_model import History, Image, Model, write_image
from tests.device.crash_world import is_true
from tests.device.device_bench import make_content
from tests.device.file_recorder import Recorder

STATES = 64
"""For each moment and model, which is all of them wherever few changes are open."""


def test_no_marker_outlives_the_files_of_a_slot_that_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # what is durable is the model's business
    known: set[frozenset[object]] = set()
    for number in range(1, 100):
        root = tmp_path / f"device-{number}"
        history = seal_failing(root, number)
        if history is None:
            assert number > 20
            break
        for image in cuts(history):
            key = frozenset(image.items())
            if f"green/{MARKER}" not in image or key in known:
                continue
            known.add(key)
            found = tmp_path / f"found-{len(known)}"
            write_image(image, found)
            assert is_true(found / "green"), f"the disk failed at call {number}"
    assert known, "some cut leaves the marker, with the files that it is about"


def seal_failing(root: Path, number: int) -> History | None:
    """Install into a slot of a disk that fails at one call; None if that many calls are not made."""
    slots = Slots(root)
    recorder = Recorder(root, number)
    with recorder.recording() as history:
        try:
            folder = slots.open("green")
            (folder / "app" / "main.py").write_text("print(1)")
            with (folder / "app" / "main.py").open("r+b") as file:
                os.fsync(file.fileno())
            slots.seal("green", make_content("1.0.0"))
        except (StepError, OSError):
            slots.discard("green")  # as who unpacks does
        else:
            return None
    return history


def cuts(history: History) -> list[Image]:
    """Return what power cuts may leave at any moment."""
    rng = Random(0)
    lengths = range(len(history.changes) + 1)
    return [image for at in lengths for model in Model for image in history.cuts(at, model, STATES, rng)]
