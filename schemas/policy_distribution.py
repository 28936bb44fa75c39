"""The ``distribution:`` block of a policy: where devices fetch a release from.

Source:
    Reference, "Artifact Distribution".
"""

from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator, Field

from schemas.policy_block import Block, Duration

SourceName = Literal["cache", "peers", "registry"]
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


class PeersPolicy(Block):
    """How devices of a site give each other a release, where ``peers`` is among the sources."""

    first: Annotated[int, Field(ge=1, le=1000)] = 2
    """So many members of each wave and site, in the plan's order, do not wait for a peer."""
    wait: Annotated[Duration, Field(le=600)] = 300.0
    """How long the others wait for one that has it, or that is not busy, before they ask what stands behind peers."""


class DistributionPolicy(Block):
    """Where devices fetch from, in which order."""

    sources: Annotated[
        Literal["auto"] | tuple[SourceName, ...],
        BeforeValidator(
            _named, json_schema_input_type=Literal["auto"] | Annotated[list[SourceName], Field(min_length=1)]
        ),
    ] = "auto"
    """``auto``: through the cache of its site where there is one, else from the registry. A list says the order;
    who has none of it is told the registry."""
    peers: PeersPolicy = PeersPolicy()
