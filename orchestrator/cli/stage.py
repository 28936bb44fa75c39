"""``tidegate stage``: bring a release into the caches of sites before a rollout begins."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.site_cache import check_upstream_url
from orchestrator.adapters.sites import SITES_NAME, read_caches
from orchestrator.adapters.staged_files import files_of
from orchestrator.adapters.staging import Staged, StagedFile, Staging
from orchestrator.cli.exits import Exit, reported
from orchestrator.cli.options import SET_UP, FolderOption, JsonOption
from orchestrator.cli.sizes import size_text
from orchestrator.cli.terminal import printable
from orchestrator.core.distribution import SitesError
from orchestrator.core.releases import ReleaseError, StoredRelease
from orchestrator.signals import until_signalled

app = typer.Typer()

_NAMED_MAX: Final = 10


@app.command("stage", rich_help_panel=SET_UP)
def stage(
    release: Annotated[str, typer.Argument(help="A published release.")],
    folder: FolderOption,
    cache: Annotated[list[str] | None, typer.Option("--cache", help="A cache's address; several times.")] = None,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="A site of sites.yaml; several times. Without both, all sites.")
    ] = None,
    arch: Annotated[
        list[str] | None, typer.Option("--arch", help="Only for this architecture; several times; none means all.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="What the devices run: chunks that it has too are left out.")
    ] = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="The archive too, for devices that take no chunks.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a release into caches, so that a rollout finds it there; needs no rights at them."""
    with reported():
        files = _files(folder, release, arch or [], since=since, with_archive=archive)
        caches = _caches(folder, cache or [], site or [])
        with _shown(quiet=as_json or not sys.stderr.isatty()) as on_progress:
            staging = Staging(files, on_progress)
            done = asyncio.run(until_signalled(staging.run(caches)))
    if done is None:
        raise typer.Exit(Exit.FAILED)
    if as_json:
        print(json.dumps({"release": release, "caches": [asdict(each) for each in done]}))
    else:
        print("\n".join(_told(each) for each in done))
    if any(each.error for each in done):
        raise typer.Exit(Exit.FAILED)


def _files(folder: Path, release: str, archs: list[str], *, since: str | None, with_archive: bool) -> list[StagedFile]:
    store = ReleaseStore(folder / "releases")
    stored = _published(store, release)
    missing = [each for each in archs if each not in stored.by_arch]
    if missing:
        raise ReleaseError(f"{release} has nothing for {missing[0][:80]}; it has: {', '.join(sorted(stored.by_arch))}")
    known = None if since is None else _published(store, since)
    return files_of(store, stored, archs, since=known, with_archive=with_archive)


def _published(store: ReleaseStore, release: str) -> StoredRelease:
    stored = store.get(release)
    if stored is None:
        there_are = ", ".join(store.names()[:_NAMED_MAX]) or "none"
        raise ReleaseError(f"no release {release[:80]!r} in {store.folder}; there are: {there_are}")
    return stored


def _caches(folder: Path, named: list[str], sites: list[str]) -> list[str]:
    """Return the caches that are meant, each once."""
    for url in named:
        check_upstream_url(url, "--cache")
    if named and not sites:
        return list(dict.fromkeys(url.rstrip("/") for url in named))
    known = read_caches(folder)
    missing = [site for site in sites if site not in known]
    if missing:
        there_are = ", ".join(sorted(known)[:_NAMED_MAX]) or "none"
        raise SitesError(f"no site {missing[0][:80]!r} in {folder / SITES_NAME}; there are: {there_are}")
    found = [url for site in sites or known for url in known[site]]
    if not found and not named:
        raise SitesError(f"no site has a cache: name one with --cache, or write {folder / SITES_NAME}")
    return list(dict.fromkeys([*(url.rstrip("/") for url in named), *found]))


@contextmanager
def _shown(*, quiet: bool) -> Iterator[Any]:
    """Give what is told of progress, and show it on standard error."""
    if quiet:
        yield lambda _staged: None
        return
    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, transient=True) as progress:

        def note(staged: Staged) -> None:
            if staged.cache not in tasks:
                tasks[staged.cache] = progress.add_task(printable(staged.cache), total=staged.files_total)
            progress.update(tasks[staged.cache], completed=staged.files)

        yield note


def _told(staged: Staged) -> str:
    files = f"{staged.files} of {staged.files_total} files, {size_text(staged.received_bytes)}"
    mark = "✖" if staged.error else "✔"
    why = f"; {printable(staged.error)}" if staged.error else ""
    return f"{mark} {printable(staged.cache)}: {files} in {staged.seconds:.1f} s{why}"
