"""``tidegate conformance``: play the orchestrator against a device, and say which clauses of the contract it keeps."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.adapters.keys import load_private
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.cli.answers import leave
from orchestrator.cli.exits import Exit, NoAnswerError, reported
from orchestrator.cli.options import DEFAULT_BROKER, SET_UP, BrokerOption, broker_url
from orchestrator.cli.terminal import show, words
from orchestrator.conformance.bench import Bench, Terms
from orchestrator.conformance.clauses import judge
from orchestrator.conformance.judgement import Clause, Judgement
from orchestrator.conformance.link import Link
from orchestrator.conformance.script import SilentDeviceError, play
from orchestrator.conformance.transcript import Transcript
from orchestrator.core.releases import StoredRelease
from schemas.ids import check_id
from schemas.topics import TOPIC_ROOT, TopicTree

app = typer.Typer()

Found = Sequence[tuple[Clause, Judgement]]
_MARKS: Final = {True: ("✔", "green"), False: ("✖", "bold red"), None: ("–", "dim")}


@app.command("conformance", rich_help_panel=SET_UP)
def conformance(
    device: Annotated[str, typer.Option("--device", help="Its id.")],
    folder: Annotated[Path, typer.Option("--folder", help="Made by `tidegate init`; holds the command key.")],
    old: Annotated[str | None, typer.Option("--old", help="Release to come back to.")] = None,
    new: Annotated[str | None, typer.Option("--new", help="Release to install; the device never had it.")] = None,
    broker: BrokerOption = DEFAULT_BROKER,
    brake_broker: Annotated[
        str | None, typer.Option(help="The same with a user who may pull the brake, if --broker's may not.")
    ] = None,
    topic_root: Annotated[str, typer.Option(help="A tree of its own beside an orchestrator's.")] = TOPIC_ROOT,
    client_id: Annotated[str | None, typer.Option(help="Of its connection, if that is not its id.")] = None,
    registry_host: Annotated[str, typer.Option(help="Where the device fetches from this test.")] = "127.0.0.1",
    registry_port: Annotated[int, typer.Option(help="0 takes a free port.")] = 0,
    registry_url: Annotated[str | None, typer.Option(help="What it is told, if it is not that address.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for what must happen.")] = 60.0,
    quiet: Annotated[float, typer.Option("--quiet", min=0.1, help="Seconds for what must not happen.")] = 3.0,
    pace: Annotated[float, typer.Option("--pace", min=0.1, help="Seconds between health checks in orders.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Put a device to the test, whatever it is written in: exits with 0 if all that could be judged holds."""
    with reported():
        url = broker_url(broker)
        key = load_private(folder / "keys" / "command.key")
        first, second = _choose(folder, old, new)
        transcript = Transcript(check_id(device), client_id or device, first.version, second.version)
        link = Link(url, broker_url(brake_broker) if brake_broker else url, TopicTree(topic_root), transcript)
        terms = Terms(folder / "releases", first, second, timeout, quiet, pace)
        bench = Bench(link, transcript, key, terms)
        try:
            asyncio.run(play(bench, host=registry_host, port=registry_port, url=registry_url))
        except SilentDeviceError as error:
            raise NoAnswerError(str(error)) from error
    found = judge(transcript)
    print(json.dumps(_as_object(device, found))) if as_json else show(_as_table(device, found))
    raise typer.Exit(Exit.OK if _holds(found) else Exit.FAILED)


def _choose(folder: Path, old: str | None, new: str | None) -> tuple[StoredRelease, StoredRelease]:
    """Return the two releases that were named; the two newest if none was."""
    store = ReleaseStore(folder / "releases")
    stored = {name: release for name in store.names() if (release := store.get(name)) is not None}
    for name in filter(None, (old, new)):
        if name not in stored:
            leave(f"{folder} holds no release {name!r}; it holds {', '.join(stored) or 'none'}")
    by_age = sorted(stored.values(), key=lambda release: release.release_counter)
    chosen = [stored[name] if name else None for name in (old, new)]
    rest = [release for release in by_age if release not in chosen]
    second = chosen[1] or (rest.pop() if rest else None)
    first = chosen[0] or (rest.pop() if rest else None)
    if first is None or second is None or first.version == second.version:
        build = f"tidegate release build TREE --folder {folder} --release NAME --version VERSION --counter N -- COMMAND"
        leave(f"{folder} must hold two releases of different versions, an old and a new one", build)
    return first, second


def _holds(found: Found) -> bool:
    return all(judgement.holds is not False for _, judgement in found)


def _as_object(device: str, found: Found) -> dict[str, object]:
    return {
        "device": device,
        "holds": _holds(found),
        "clauses": [
            {
                "clause": clause.id,
                "holds": judgement.holds,
                "seen": judgement.seen,
                "text": clause.text,
                "section": clause.section,
            }
            for clause, judgement in found
        ],
    }


def _as_table(device: str, found: Found) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "CLAUSE", "SAYS", "SEEN"):
        table.add_column(name, no_wrap=name not in {"SAYS", "SEEN"})
    for clause, judgement in found:
        table.add_row(Text(*_MARKS[judgement.holds]), words(clause.id), words(clause.text), words(judgement.seen))
    return Group(table, Text(), words(_summary(device, found), "bold"))


def _summary(device: str, found: Found) -> str:
    verdicts = [judgement.holds for _, judgement in found]
    kept, broken, unknown = (verdicts.count(each) for each in (True, False, None))
    text = f"{device} keeps {kept} of {len(found)} clauses"
    text += f", breaks {broken}" if broken else ""
    return f"{text}, {unknown} could not be judged" if unknown else text
