"""The ``distribution:`` block of a policy: where devices fetch a release from, and whether ahead of its waves.

Source:
    Reference, "Artifact Distribution".
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from schemas.policy_block import Block, Duration
from schemas.times import Timestamp, parse_timestamp

SourceName = Literal["cache", "peers", "registry", "mqtt"]
SOURCE_NAMES: Final[tuple[SourceName, ...]] = get_args(SourceName)


def _named(value: object) -> object:
    """Refuse what names no source, with those that there are."""
    if value == "auto" or isinstance(value, tuple):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError(f"write auto, or a list out of {', '.join(SOURCE_NAMES)}")
    for name in value:
        if name not in SOURCE_NAMES:
            raise ValueError(f"{name!r} is no source; write auto, or a list out of {', '.join(SOURCE_NAMES)}")
        if value.count(name) > 1:
            raise ValueError(f"{name!r} stands there twice")
    return tuple(value)


def _activation(value: object) -> object:
    """Refuse what is neither a word nor a moment with its zone; YAML has read a moment already."""
    text = value.isoformat() if isinstance(value, datetime) else value
    if text in {"at_once", "manual"}:
        return text
    try:
        parse_timestamp(str(text))
    except ValueError as error:
        raise ValueError(
            f"{str(value)!r} says no time; write at_once, manual, or a moment such as 2026-12-01T06:00:00Z"
        ) from error
    return text


Activation = Annotated[Literal["at_once", "manual"] | Timestamp, BeforeValidator(_activation)]
"""When devices may begin to run what they were ordered: at once, when a person says so, or from a moment on."""


class PeersPolicy(Block):
    """How devices of a site give each other a release, where ``peers`` is among the sources."""

    first: Annotated[int, Field(ge=1, le=1000)] = 2
    """So many members of each wave and site, in the plan's order, do not wait for a peer."""
    wait: Annotated[Duration, Field(le=600)] = 300.0
    """How long the others wait for one that has it, or that is not busy, before they ask what stands behind peers."""


class DistributionPolicy(Block):
    """Where devices fetch from, in which order, and when what they fetched may be activated."""

    sources: Annotated[
        Literal["auto"] | tuple[SourceName, ...],
        BeforeValidator(
            _named, json_schema_input_type=Literal["auto"] | Annotated[list[SourceName], Field(min_length=1)]
        ),
    ] = "auto"
    """``auto``: through the cache of its site where there is one, else from the registry; ``mqtt`` behind that where a
    target has no HTTP. A list says the order; who has none of it is told the registry."""
    peers: PeersPolicy = PeersPolicy()
    activate: Activation = "at_once"
    """Unless ``at_once``, the members of all waves fetch and install beforehand, and the canary waits for a person
    (``manual``, ``tidegate activate``) or for that moment."""
    max_parallel_downloads: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """So many of those that are connected fetch at once while they are ordered ahead of their wave; None: all."""

    @model_validator(mode="after")
    def _limits_what_there_is(self) -> Self:
        if self.max_parallel_downloads is not None and not self.stages:
            raise ValueError(
                "max_parallel_downloads is for what is fetched ahead of the waves; write activate: manual, or a moment"
            )
        return self

    @property
    def stages(self) -> bool:
        """Whether members fetch and install ahead of their waves."""
        return self.activate != "at_once"

    @property
    def activates_at(self) -> float | None:
        """From when on it is activated by itself, in seconds since the epoch; None: never, or at once."""
        return None if self.activate in {"at_once", "manual"} else parse_timestamp(self.activate)
