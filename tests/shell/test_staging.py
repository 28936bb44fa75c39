"""Bringing releases into caches, as an operator types it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters import staging
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore
from tests.device.device_world import make_release
from tests.device.raw_http import Server, has, says, serving
from tests.shell.site_world import name_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def built(tmp_path: Path) -> BuiltRelease:
    made = make_release(tmp_path, "1.0.0")
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
    assert [each.path for each in cache.asked] == [name_of(built.envelope, "manifests"), name_of(built.artifact)]


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

    assert (result.exit_code, len(cache.asked)) == (1, 2)
    assert "publish the release there" in result.stdout


def test_what_cannot_be_staged_says_what_there_is(tmp_path: Path, built: BuiltRelease) -> None:
    assert "no site has a cache: name one with --cache" in stage(tmp_path).stderr
    assert "it has: noarch" in stage(tmp_path, "--cache", "http://a", "--arch", "mips").stderr
    wrong = CliRunner().invoke(app, ["stage", "app-9", "--folder", str(tmp_path), "--cache", "http://a"])
    assert "there are: app-1.0.0" in wrong.stderr
    assert "--cache is no address" in stage(tmp_path, "--cache", "a").stderr
