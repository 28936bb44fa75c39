"""Bringing releases into caches, as an operator types it."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters import staging
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from tests.device.device_world import RELEASE_KEY, make_release
from tests.device.raw_http import Server, has, says, serving
from tests.shell.site_world import name_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def built(tmp_path: Path) -> BuiltRelease:
    made = make_release(tmp_path, "1.0.0", chunked=False)
    ReleaseStore(tmp_path / "releases").publish(made)
    return made


@pytest.fixture
def cache(built: BuiltRelease) -> Iterator[Server]:
    with serving() as server:
        server.answers[name_of(built.envelope, "manifests")] = has(built.envelope)
        server.answers[name_of(built.artifact)] = has(built.artifact)
        yield server


def stage(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["stage", "app-1.0.0", "--folder", str(folder), *options])


def test_each_file_is_asked_for_once_at_each_cache(tmp_path: Path, cache: Server, built: BuiltRelease) -> None:
    result = stage(tmp_path, "--cache", cache.url, "--json")

    assert result.exit_code == 0, result.output
    (staged,) = json.loads(result.stdout)["caches"]
    assert (staged["cache"], staged["files"], staged["files_total"]) == (cache.url, 2, 2)
    assert staged["received_bytes"] == len(built.envelope) + len(built.artifact)
    assert sorted(each.path for each in cache.asked) == [name_of(built.artifact), name_of(built.envelope, "manifests")]


def test_sites_are_found_in_their_file_and_one_that_is_not_there_is_named(tmp_path: Path, cache: Server) -> None:
    (tmp_path / "sites.yaml").write_text(f"sites:\n  plant-7:\n    cache: {cache.url}\n")

    assert stage(tmp_path).stdout.startswith(f"✔ {cache.url}: 2 of 2 files")
    assert stage(tmp_path, "--site", "plant-7").exit_code == 0
    unknown = stage(tmp_path, "--site", "plant-8")
    assert (unknown.exit_code, "no site 'plant-8'" in unknown.stderr) == (1, True)


def test_cache_that_gives_other_bytes_has_nothing_staged(tmp_path: Path, cache: Server, built: BuiltRelease) -> None:
    cache.answers[name_of(built.artifact)] = has(b"x" + built.artifact[1:])

    result = stage(tmp_path, "--cache", cache.url)

    assert result.exit_code == 1
    assert "1 of 2 files" in result.stdout
    assert "sends other bytes than its name says" in result.stdout


def test_cache_without_the_release_is_not_asked_again_and_again(
    tmp_path: Path, cache: Server, built: BuiltRelease
) -> None:
    cache.answers[name_of(built.artifact)] = says("404 Not Found")

    result = stage(tmp_path, "--cache", cache.url)

    assert (result.exit_code, len(cache.asked) <= 2) == (1, True)
    assert "publish the release there" in result.stdout


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A cache with all that a store has: two releases in chunks, of which the newer shares most with the older."""
    for version in ("1.0.0", "1.1.0"):
        tree = tmp_path / version
        (tree / "models").mkdir(parents=True)
        (tree / "models" / "same.bin").write_bytes(SAME)
        (tree / "models" / "zebra.bin").write_bytes(version.encode() * 10)
        built = build_release(
            tree, release=f"app-{version}", version=version, release_counter=1, command=["true"], key=RELEASE_KEY
        )
        ReleaseStore(tmp_path / "releases").publish(built)
    with serving() as server:
        for path in (tmp_path / "releases").glob("*/*"):
            server.answers[f"/{path.parent.name}/{path.name}"] = has(path.read_bytes())
        yield server


SAME = random.Random(1).randbytes(500_000)


def asked_for(server: Server) -> dict[str, int]:
    """How many files of each folder were asked for, each once."""
    paths = {each.path for each in server.asked}
    assert len(paths) == len(server.asked)
    return dict(Counter(path.split("/")[1] for path in paths))


def test_release_in_chunks_is_staged_in_chunks_and_only_those_that_devices_lack(tmp_path: Path, store: Server) -> None:
    assert stage(tmp_path, "--cache", store.url).exit_code == 0
    whole = asked_for(store)
    store.asked.clear()
    newer = CliRunner().invoke(
        app, ["stage", "app-1.1.0", "--folder", str(tmp_path), "--cache", store.url, "--since", "app-1.0.0"]
    )
    assert newer.exit_code == 0, newer.output
    lacking = asked_for(store)

    assert whole.keys() == {"manifests", "chunks"}
    assert whole["chunks"] > 3
    assert lacking == {"manifests": 1, "chunks": 2}, "the list, and the end of the content"


def test_archive_is_staged_too_for_devices_that_take_no_chunks(tmp_path: Path, store: Server) -> None:
    assert stage(tmp_path, "--cache", store.url, "--archive").exit_code == 0

    assert asked_for(store)["artifacts"] == 1


def test_what_cannot_be_staged_says_what_there_is(tmp_path: Path, built: BuiltRelease) -> None:
    assert "no site has a cache: name one with --cache" in stage(tmp_path).stderr
    assert "it has: noarch" in stage(tmp_path, "--cache", "http://a", "--arch", "mips").stderr
    wrong = CliRunner().invoke(app, ["stage", "app-9", "--folder", str(tmp_path), "--cache", "http://a"])
    assert "there are: app-1.0.0" in wrong.stderr
    assert "--cache is no address" in stage(tmp_path, "--cache", "a").stderr
