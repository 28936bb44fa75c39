"""Which devices may introduce themselves: all, those that a person declared, and those that fit a rule.

Who a device is, the broker has checked; whether it belongs to this fleet is decided here.
"""

from dataclasses import dataclass
from typing import Final

from orchestrator.core.selection import OF_INFO
from schemas.filter_text import parse_filter
from schemas.filters import Filter, matches
from schemas.messages import Info


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The rule for devices that are not in the inventory yet; a declared device may always introduce itself.

    Attributes:
        is_open: Any device may.
        rule: Devices whose own words it selects may; what they say is not proven, so it is no protection by itself.
    """

    is_open: bool
    rule: Filter | None = None

    def admits(self, device: str, info: Info) -> bool:
        """Say whether a device that nobody declared may introduce itself as ``info``."""
        if self.is_open:
            return True
        return self.rule is not None and matches(self.rule, own_words(device, info))


def parse_enrolment(text: str) -> Enrolment:
    """Read ``all``, ``listed`` or a filter expression.

    Raises:
        PolicyError: The expression does not parse; the author's fault.
    """
    match text:
        case "all":
            return OPEN
        case "listed":
            return LISTED
        case _:
            return Enrolment(is_open=False, rule=parse_filter(text))


def own_words(device: str, info: Info) -> dict[str, object]:
    """Return what a filter can ask of a device's birth document."""
    said = {name: read(info) for name, read in OF_INFO.items()}
    return {**said, "device": device, "version": info.version, "disk_free_bytes": info.disk_free_bytes}


OPEN: Final = Enrolment(is_open=True)
LISTED: Final = Enrolment(is_open=False)
