"""A site with a cache: the orchestrator's registry, `tidegate cache`, `tidegate stage`, and real agents."""

import asyncio
import json
import os
import resource
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.registry import serve_registry
from tests.device.device_world import free_port
from tests.end_to_end.rollout_bench import command, until_phase
from tests.end_to_end.site_fleet import POLICY, SITE, agents, announced, published
from tests.end_to_end.stage import Stage, make_stage
from tests.shell.site_world import Site, files_in, name_of, site

DEVICES = ["pi-1", "pi-2"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield make_stage(stack, tmp_path, DEVICES)


@contextmanager
def cache_process(
    folder: Path,
    registry: str,
    *options: str,
    file_bytes_max: int | None = None,
    ending: signal.Signals = signal.SIGTERM,
) -> Iterator[str]:
    """Run a cache, on a disk that takes no larger files, and end it with a signal."""
    arguments = ["--registry", registry, "--folder", str(folder), "--host", "127.0.0.1", "--port", "0", *options]
    with (folder.parent / "cache.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "cache", *arguments], stdout=subprocess.PIPE, stderr=log
        )
    if file_bytes_max is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if readable else b""
        assert line, (folder.parent / "cache.log").read_text()
        yield json.loads(line)["cache"]
    finally:
        process.send_signal(ending)
        assert process.wait(timeout=30) == (0 if ending is signal.SIGTERM else -ending)
        assert process.stdout is not None
        process.stdout.close()


def status_of(cache: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{cache}/status", timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


async def typed(*words: str) -> dict[str, Any]:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "orchestrator", *words, "--json"], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


async def test_devices_of_a_site_get_a_staged_release_from_its_cache_and_it_crosses_the_line_once(
    stage: Stage, tmp_path: Path
) -> None:
    built = published(stage)
    archive_bytes = len(built.envelope) + len(built.artifact)
    port = free_port()
    stage.start("--registry-port", str(port))
    with cache_process(tmp_path / "cache", f"http://127.0.0.1:{port}") as cache, agents(stage, DEVICES) as fleet:
        (stage.folder / "sites.yaml").write_text(f"sites:\n  {SITE}:\n    cache: {cache}\n")

        staged = await typed("stage", "app-1.0.0", "--folder", str(stage.folder), "--site", SITE)
        (at_cache,) = staged["caches"]
        assert (at_cache["files"], at_cache["error"]) == (at_cache["files_total"], "")
        fetched_bytes = at_cache["received_bytes"]
        await announced(stage, len(DEVICES))
        body = {"release": "app-1.0.0", "policy": POLICY, "rollout": "r-1", "time_scale": 60}
        planned = await command(stage, "plan", **body)
        await command(stage, "start", **body)
        await until_phase(stage, "completed")
        status = status_of(cache)
        assert [each.ask()["version"] for each in fleet] == ["1.0.0", "1.0.0"]

    (share,) = planned["distribution"]["sites"]
    assert share == {
        "site": SITE, "through": "cache", "devices": 2, "giving": 0, "wan_bytes": archive_bytes,
        "direct_bytes": 2 * archive_bytes,
    }  # fmt: skip
    assert (status["hits"], status["hit_bytes"]) == (2 * at_cache["files"], 2 * fetched_bytes)
    assert (status["fetched_bytes"], status["misses"]) == (fetched_bytes, at_cache["files"])
    stage.stop()
    assert stage.verify() == len(stage.facts())


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    """Something in a registry's store."""
    data = os.urandom(1_000_000)
    (tmp_path / "store" / "artifacts").mkdir(parents=True)
    (tmp_path / "store" / name_of(data)[1:]).write_bytes(data)
    return data


async def test_cache_on_a_full_disk_passes_on_what_it_cannot_keep(tmp_path: Path, data: bytes) -> None:
    async with serve_registry(tmp_path / "store", "127.0.0.1", 0) as registry:
        with cache_process(tmp_path / "cache", registry, file_bytes_max=300_000) as url:
            got = await asyncio.gather(*(Site(url).get(name_of(data)) for _ in range(3)))

    assert {(each.status, each.body == data) for each in got} == {(200, True)}
    assert files_in(tmp_path / "cache") == set()


async def test_cache_that_is_killed_goes_on_where_it_was(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "cache"
    async with serve_registry(tmp_path / "store", "127.0.0.1", 0) as registry:
        with cache_process(folder, registry, "--bandwidth-bytes-per-second", "500kB", ending=signal.SIGKILL) as url:
            asking = asyncio.create_task(Site(url).get(name_of(data)))
            await Site(url).until(lambda status: status["fetched_bytes"] > 200_000)
        assert not (await asking).is_whole
        async with site(folder, registry) as cache:
            assert (await cache.get(name_of(data))).body == data
            fetched_bytes = (await cache.status())["fetched_bytes"]

    assert fetched_bytes <= len(data) - 200_000
    assert files_in(folder) == {name_of(data)[1:]}
