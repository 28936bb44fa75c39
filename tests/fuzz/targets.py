"""Every decoder that takes bytes or text from outside, by name."""

from typing import Final

from tests.fuzz.broker_targets import BROKER
from tests.fuzz.disk_targets import DISK
from tests.fuzz.target import Target
from tests.fuzz.text_targets import TEXT
from tests.fuzz.wire_targets import WIRE

TARGETS: Final[dict[str, Target]] = {**WIRE, **BROKER, **TEXT, **DISK}
