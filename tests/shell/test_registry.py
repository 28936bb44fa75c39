import asyncio
import contextlib
import hashlib
import http.client
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.adapters.registry import RegistryError, serve_registry

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{DIGEST}"'
Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("artifacts", "manifests", "releases"):
        (tmp_path / "store" / name).mkdir(parents=True)
    (tmp_path / "store" / "artifacts" / DIGEST).write_bytes(CONTENT)
    (tmp_path / "store" / "manifests" / DIGEST).write_bytes(b"{}")
    (tmp_path / "store" / "releases" / "secret.json").write_text("{}")
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "store"


@pytest.fixture
async def port(folder: Path) -> AsyncIterator[int]:
    async with serve_registry(folder, "127.0.0.1", 0) as base_url:
        port = urlsplit(base_url).port
        assert base_url == f"http://127.0.0.1:{port}"
        assert port
        yield port


async def ask(port: int, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    def run() -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    return await asyncio.to_thread(run)


async def test_artifact_is_served_whole_with_its_digest_as_strong_etag(port: int) -> None:
    status, headers, body = await ask(port, f"/artifacts/{DIGEST}")

    assert (status, body) == (200, CONTENT)
    assert headers["etag"] == ETAG
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (headers["accept-ranges"], headers["content-length"]) == ("bytes", str(len(CONTENT)))


async def test_manifest_and_health_are_served(port: int) -> None:
    assert (await ask(port, f"/manifests/{DIGEST}"))[::2] == (200, b"{}")
    assert (await ask(port, "/healthz"))[::2] == (200, b"ok")


async def test_download_goes_on_where_it_was_cut_off(port: int) -> None:
    status, headers, body = await ask(port, f"/artifacts/{DIGEST}", Range="bytes=1000000-", If_Range=ETAG)

    assert (status, body) == (206, CONTENT[1_000_000:])
    assert headers["content-range"] == f"bytes 1000000-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert headers["etag"] == ETAG


@pytest.mark.parametrize("if_range", ['"other"', f"W/{ETAG}"])
async def test_download_starts_anew_when_the_etag_is_not_the_same(port: int, if_range: str) -> None:
    status, _, body = await ask(port, f"/artifacts/{DIGEST}", Range="bytes=1000-", If_Range=if_range)

    assert (status, body) == (200, CONTENT)


async def test_range_beyond_the_end_is_refused(port: int) -> None:
    status, headers, _ = await ask(port, f"/artifacts/{DIGEST}", Range=f"bytes={len(CONTENT)}-")

    assert (status, headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")


async def test_head_tells_the_size_without_the_content(port: int) -> None:
    status, headers, body = await ask(port, f"/artifacts/{DIGEST}", method="HEAD")

    assert (status, headers["content-length"], body) == (200, str(len(CONTENT)), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/artifacts/",
        f"/artifacts/{'0' * 64}",
        f"/artifacts/{DIGEST.upper()}",
        f"/artifacts/{DIGEST}%0a",
        f"/artifacts/{DIGEST}/..",
        "/artifacts/..%2freleases%2fsecret.json",
        "/artifacts/../releases/secret.json",
        "/artifacts/%2e%2e/%2e%2e/secret",
        "/artifacts//etc/passwd",
        "/releases/secret.json",
        f"/artifacts/{DIGEST}.pending",
    ],
)
async def test_nothing_but_a_published_digest_is_served(port: int, path: str) -> None:
    status, _, body = await ask(port, path)

    assert (status, body) == (404, b"Not Found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_written(port: int, folder: Path, method: str) -> None:
    status, _, _ = await ask(port, f"/artifacts/{DIGEST}", method=method)

    assert status == 405
    assert (folder / "artifacts" / DIGEST).read_bytes() == CONTENT


async def test_many_devices_fetch_at_the_same_time(port: int) -> None:
    answers = await asyncio.gather(*(ask(port, f"/artifacts/{DIGEST}") for _ in range(20)))

    assert all(body == CONTENT for _, _, body in answers)


async def test_taken_port_is_named_together_with_the_setting(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RegistryError, match=f"127.0.0.1 port {port}: .*in use; .*--registry-port"):
            async with serve_registry(folder, "127.0.0.1", port):
                pass


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70000), ("no such host", 0)])
async def test_impossible_address_is_named_together_with_the_setting(folder: Path, host: str, port: int) -> None:
    with pytest.raises(RegistryError, match=f"listen on {host} port {port}: .*--registry-host"):
        async with serve_registry(folder, host, port):
            pass


async def test_url_holds_the_host_name_when_all_interfaces_are_listened_on(folder: Path) -> None:
    async with serve_registry(folder, "0.0.0.0", 0) as base_url:
        assert urlsplit(base_url).hostname == socket.gethostname().lower()
        assert (await ask(urlsplit(base_url).port or 0, "/healthz"))[0] == 200


async def test_port_is_free_again_even_when_a_client_is_still_connected(folder: Path) -> None:
    async with serve_registry(folder, "127.0.0.1", 0) as base_url:
        port = urlsplit(base_url).port or 0
        client = socket.create_connection(("127.0.0.1", port))
    async with serve_registry(folder, "127.0.0.1", port):
        assert (await ask(port, "/healthz"))[0] == 200
    client.close()
