"""``tidegate health tail``: one line for each message, until it is enough or nothing comes any more."""

import contextlib
import json
from difflib import get_close_matches
from typing import Final, NoReturn

from orchestrator.adapters.broker_url import BrokerUrl
from orchestrator.cli import bus
from orchestrator.cli.answers import Answer, leave, read
from orchestrator.cli.exits import Exit, NoAnswerError
from orchestrator.cli.health_groups import group_line, read_summary
from orchestrator.cli.listening import find_groups, heard
from orchestrator.cli.looking import now
from orchestrator.cli.quantities import clock, time_of_day
from orchestrator.cli.sample_line import sample_line
from orchestrator.cli.samples import SampleReader
from orchestrator.cli.terminal import note, show, unbroken
from schemas.ids import is_id
from schemas.times import format_duration, format_timestamp
from schemas.topics import Kind

PATIENCE_INTERVALS: Final = 3
PATIENCE_SECONDS_MIN: Final = 10.0
PATIENCE_SECONDS: Final = 90.0
"""Of a device whose interval nobody knows: three times the wire's default."""
SUMMARY_PATIENCE_SECONDS: Final = 30.0
"""Summaries come every ten seconds."""
_ASKING_SECONDS: Final = 3.0


class _Known(Answer):
    """What the orchestrator knows of a device."""

    group: str
    version: str | None = None
    last_seen_seconds: float | None = None
    interval_seconds: float | None = None


async def tail_device(
    url: BrokerUrl, device: str, *, count: int | None, timeout_seconds: float | None, as_json: bool
) -> None:
    """Print the samples of a device as they come; returns after ``count``.

    Raises:
        BrokerUnavailableError: No connection, or it broke.
        typer.Exit: There is no such device, or nothing came for too long.
    """
    if not is_id(device):
        leave(f"{device!r} is no device id", "tidegate devices")
    known = await _introduce(url, device)
    interval = None if known is None else known.interval_seconds
    usual = PATIENCE_SECONDS if interval is None else max(PATIENCE_INTERVALS * interval, PATIENCE_SECONDS_MIN)
    patience = timeout_seconds or usual
    reader, shown = SampleReader(device), 0
    try:
        topic = bus.TREE.build(Kind.HEALTH, device=device)
        async with contextlib.aclosing(heard(url, [topic], timeout_seconds=patience)) as messages:
            async for _, payload in messages:
                line = reader.read(payload, now())
                if as_json:
                    print(line.model_dump_json(), flush=True)
                else:
                    show(unbroken(sample_line(line)))
                shown += 1
                if shown == count:
                    return
    except TimeoutError:
        await _give_up(url, device, patience)


async def _introduce(url: BrokerUrl, device: str) -> _Known | None:
    """Say what is known of a device; None where no orchestrator answers."""
    known = await _ask(url, device)
    if known is None:
        note(f"no orchestrator answers; listening to {device} all the same")
    else:
        every = "" if known.interval_seconds is None else f", a sample every {format_duration(known.interval_seconds)}"
        note(f"{device}: group {known.group}, runs {known.version or 'nobody knows what'}{every}")
    return known


async def _ask(url: BrokerUrl, device: str) -> _Known | None:
    try:
        reply = await bus.request(url, "get", {"device": device}, timeout_seconds=_ASKING_SECONDS)
    except NoAnswerError:
        return None
    if reply.error is not None and reply.error.code == "not_found":
        near = [f"tidegate health tail {name}" for name in reply.error.did_you_mean or ()]
        leave(f"no device {device!r}", *near, "tidegate devices")
    return None if reply.data is None else read(_Known, reply.data)


async def _give_up(url: BrokerUrl, device: str, patience: float) -> NoReturn:
    known = await _ask(url, device)
    text = f"nothing came from {device} for {format_duration(patience)}"
    if known is None:
        leave(f"{text}, and no orchestrator answers", f"tidegate device {device}", code=Exit.TIMEOUT)
    seen = known.last_seen_seconds
    last = "has never heard it" if seen is None else f"last heard it {clock(seen)} ago"
    interval = known.interval_seconds
    usual = "" if interval is None else f", and knows it to send every {format_duration(interval)}"
    leave(f"{text}; the orchestrator {last}{usual}", f"tidegate device {device}", code=Exit.TIMEOUT)


async def tail_group(
    url: BrokerUrl, group: str, *, count: int | None, timeout_seconds: float | None, as_json: bool
) -> None:
    """Print the summaries of a group as they come, the last one first; returns after ``count``.

    Raises:
        BrokerUnavailableError: No connection, or it broke.
        typer.Exit: There is no such group, or nothing came for too long.
    """
    known = (await find_groups(url)).summaries
    if group not in known:
        near = get_close_matches(group, known, n=3, cutoff=0.4)
        leave(f"no group {group!r} has a summary here", *(f"tidegate health tail --group {each}" for each in near),
              "tidegate health top")  # fmt: skip
    patience = timeout_seconds or SUMMARY_PATIENCE_SECONDS
    shown = 0
    try:
        topic = bus.TREE.build(Kind.GROUP_SUMMARY, group=group)
        async with contextlib.aclosing(heard(url, [topic], timeout_seconds=patience)) as messages:
            async for _, payload in messages:
                summary, at = read_summary(payload), format_timestamp(now())
                if summary is None:
                    note(f"a summary of {group} cannot be read; is the orchestrator of another version?")
                    continue
                if as_json:
                    print(json.dumps({"at": at, **summary.model_dump()}), flush=True)
                else:
                    show(unbroken(group_line(summary, time_of_day(at))))
                shown += 1
                if shown == count:
                    return
    except TimeoutError:
        text = f"no summary of {group} came for {format_duration(patience)}; is the orchestrator running?"
        leave(text, "tidegate health top", code=Exit.TIMEOUT)
