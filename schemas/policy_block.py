"""What every block of a policy shares: no unknown key, no silent default, and durations that can be scaled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self, get_args

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from schemas.block import StrictBlock
from schemas.condition_text import parse_duration
from schemas.conditions import Condition
from schemas.errors import PolicyError
from schemas.messages import HealthCheck


@dataclass(frozen=True, slots=True)
class _Scales:
    """Marks a duration that ``Policy.scaled`` divides."""


SCALES: Final = _Scales()


@contextmanager
def blaming_the_author() -> Iterator[None]:
    """Tell pydantic, which adds the place, of a text that does not parse."""
    try:
        yield
    except PolicyError as error:
        raise ValueError(str(error)) from error


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    with blaming_the_author():
        return parse_duration(value)


def _percent(value: object) -> object:
    if isinstance(value, str) and value.endswith("%"):
        return float(value[:-1]) if value[:-1].replace(".", "", 1).isdigit() else value
    return value


Minutes = Annotated[float, Field(ge=0, le=60 * 24 * 60), SCALES]
Percent = Annotated[float, Field(gt=0, le=100)]

Duration = Annotated[float, Field(gt=0), BeforeValidator(_seconds, json_schema_input_type=float | str), SCALES]
"""Written ``15m`` or ``24h``; held in seconds."""

PercentText = Annotated[float, Field(gt=0, le=100), BeforeValidator(_percent, json_schema_input_type=float | str)]
"""Written ``10%``; held as a number of percent."""


class Block(StrictBlock):
    """A block of a policy."""

    def scaled(self, time_scale: float) -> Self:
        """Return the block with every duration in it, however deep, divided by ``time_scale``."""
        changes: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            changes[name] = value / time_scale if _is_duration(field) and value else _scaled(value, time_scale)
        return self.model_copy(update={name: new for name, new in changes.items() if new is not getattr(self, name)})


def _is_duration(field: FieldInfo) -> bool:
    """Say whether a field holds a duration, or a duration or nothing."""
    choices = get_args(field.annotation)
    return SCALES in field.metadata or any(SCALES in getattr(each, "__metadata__", ()) for each in choices)


def _scaled(value: Any, time_scale: float) -> Any:  # noqa: ANN401 - whatever a block may hold
    match value:
        case Block() | Condition():
            return value.scaled(time_scale)
        case HealthCheck():
            # How long a device waits for one answer stays: no program answers faster for it.
            return value.model_copy(update={"interval_seconds": value.interval_seconds / time_scale})
        case tuple():
            return tuple(_scaled(each, time_scale) for each in value)
        case _:
            return value
