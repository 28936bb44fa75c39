"""``tidegate media``: orders for devices that no network reaches."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from orchestrator.adapters import clock
from orchestrator.adapters.keys import load_private
from orchestrator.adapters.media import MediaError, Written, next_number, write_order, write_release
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.trust import LiveTrust
from orchestrator.cli.answers import ask, leave
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import DEFAULT_BROKER, SET_UP, BrokerOption, FolderOption, JsonOption, TimeoutOption
from orchestrator.cli.refusals import describe
from orchestrator.cli.sizes import size_text
from orchestrator.core.releases import ReleaseError, StoredRelease
from orchestrator.shelf import load_policy
from schemas.condition_text import parse_duration
from schemas.errors import PolicyError
from schemas.ids import check_id
from schemas.media import DEVICES_MAX, MediaOrder, MediaTarget
from schemas.policy import Policy
from schemas.times import format_timestamp

app = typer.Typer(
    name="media",
    rich_help_panel=SET_UP,
    no_args_is_help=True,
    help="Bring releases to devices that no network reaches.",
)

_PAGE: Final = 200
_NAMED_MAX: Final = 5
_DAYS: Final = re.compile(r"([1-9][0-9]{0,4}) ?d(?:ays?)?")


@app.callback()
def media() -> None:
    """Keep ``export`` a command of its own, also while it is the only one."""


@app.command("export")
def export(
    release: Annotated[str, typer.Argument(help="A published release.")],
    folder: FolderOption,
    to: Annotated[Path, typer.Option("--to", help="A folder on the medium; made if it does not exist.")],
    device: Annotated[list[str] | None, typer.Option("--device", help="For whom; several times.")] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", help="For all devices whose settings name this group; several times.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="For those that a filter selects now; asks the orchestrator.")
    ] = None,
    valid_for: Annotated[
        str, typer.Option("--valid-for", help="How long the order may be taken, for example 12h or 30d.")
    ] = "30d",
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Takes strategy and health check from a policy file.")
    ] = None,
    arch: Annotated[
        list[str] | None, typer.Option("--arch", help="Only for this architecture; several times; none means all.")
    ] = None,
    broker: BrokerOption = DEFAULT_BROKER,
    timeout: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Write a release and a signed order for it into a folder, for a stick that somebody carries to devices."""
    with reported():
        valid_seconds = _valid_seconds(valid_for)
        devices = [check_id(name) for name in device or []]
        groups = [check_id(name) for name in group or []]
        terms = Policy() if policy is None else load_policy(policy)
    if where is not None:
        devices += _selected(broker, where, timeout)
    with reported():
        order, written = _export(
            folder, to, release, list(dict.fromkeys(devices)), list(dict.fromkeys(groups)), arch or [], terms,
            valid_seconds=valid_seconds, quiet=as_json or not sys.stderr.isatty(),
        )  # fmt: skip
    if as_json:
        told = {"order": order.number, **order.model_dump(mode="json", exclude={"number", "targets", "health_check"})}
        print(json.dumps({"folder": str(to), **told, **asdict(written)}))
        return
    print(f"{release}: {written.files} files, {size_text(written.size_bytes)} in {to}")
    print(f"order {order.number} is for {_named(order)}, to be taken until {order.not_after}")
    print("next: unmount the medium, and plug it in where [media] folder in the devices' agent.toml says")


def _export(
    folder: Path,
    to: Path,
    release: str,
    devices: Sequence[str],
    groups: Sequence[str],
    archs: Sequence[str],
    terms: Policy,
    *,
    valid_seconds: float,
    quiet: bool,
) -> tuple[MediaOrder, Written]:
    if not devices and not groups:
        raise MediaError("for whom? give --device ID, --group GROUP or --where FILTER")
    if len(devices) > DEVICES_MAX:
        raise MediaError(f"{len(devices)} devices, at most {DEVICES_MAX} in one order: name a group, or make several")
    now = clock.now()
    key = load_private(folder / "keys" / "command.key")
    live = LiveTrust(folder, key.public_key().public_bytes_raw())
    live.trust.check_expiry(now)
    store = ReleaseStore(folder / "releases")
    stored = _published(store, release, archs)
    store.verify_release(stored, live.trust)
    with _shown(quiet=quiet) as on_progress:
        written = write_release(to, store, stored, archs, on_progress)
    update = terms.rolling_update
    order = MediaOrder(
        number=next_number(folder, now),
        made_at=format_timestamp(now),
        not_after=format_timestamp(now + valid_seconds),
        devices=tuple(devices),
        groups=tuple(groups),
        release=stored.release,
        version=stored.version,
        targets=tuple(
            MediaTarget(
                arch=each.arch,
                manifest_sha256=each.manifest_sha256,
                manifest_size_bytes=each.manifest_size_bytes,
                artifact_sha256=each.artifact_sha256,
                artifact_size_bytes=each.artifact_size_bytes,
            )
            for each in stored.by_arch.values()
            if not archs or each.arch in archs
        ),
        strategy=terms.strategy,
        health_check=update.health_check,
        min_ready_seconds=update.min_ready_seconds,
        progress_deadline_seconds=update.progress_deadline,
    )
    write_order(to, folder, order, key, live.document)
    return order, written


def _published(store: ReleaseStore, release: str, archs: Sequence[str]) -> StoredRelease:
    stored = store.get(release)
    if stored is None:
        there_are = ", ".join(store.names()[:_NAMED_MAX]) or "none"
        raise ReleaseError(f"no release {release[:80]!r} in {store.folder}; there are: {there_are}")
    missing = [each for each in archs if each not in stored.by_arch]
    if missing:
        raise ReleaseError(f"{release} has nothing for {missing[0][:80]}; it has: {', '.join(sorted(stored.by_arch))}")
    return stored


def _valid_seconds(text: str) -> float:
    days = _DAYS.fullmatch(text.strip())
    try:
        return float(days[1]) * 86400 if days is not None else parse_duration(text)
    except PolicyError as error:
        raise MediaError(f"--valid-for {text[:40]!r} is no duration; write for example 12h or 30d") from error


def _selected(broker: str, where: str, timeout_seconds: float) -> list[str]:
    """Ask the orchestrator which devices a filter selects, page by page."""
    names: list[str] = []
    after: str | None = None
    while True:
        body = {"what": "devices", "where": where, "limit": _PAGE, **({} if after is None else {"after": after})}
        reply = ask(broker, "list", body, timeout_seconds=timeout_seconds)
        if reply.error is not None:
            leave(describe(reply.error), code=Exit.FAILED)
        data = reply.data or {}
        names += [str(each["device"]) for each in data.get("devices", [])]
        after = data.get("next")
        if after is None or len(names) > DEVICES_MAX:
            break
    if not names:
        leave(f"no device where {where}", "tidegate devices", code=Exit.NOT_FOUND)
    return names


def _named(order: MediaOrder) -> str:
    shown = list(order.devices[:_NAMED_MAX])
    more = len(order.devices) - len(shown)
    return ", ".join([*shown, *([f"{more} more devices"] if more else []), *(f"group {each}" for each in order.groups)])


@contextmanager
def _shown(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give what is told of progress, and show it on standard error."""
    if quiet:
        yield lambda _done, _total: None
        return
    with Progress(TextColumn("files"), BarColumn(), MofNCompleteColumn(), transient=True) as progress:
        task = progress.add_task("files", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
