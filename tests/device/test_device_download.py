"""Downloads over bad networks, from bad servers and onto full disks, with real sockets."""

import random
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from device_client.adapters.download import Patience, download
from device_client.adapters.failure import CancelledError, StepError
from device_client.adapters.transports import Transports
from device_client.core.redirects import NOWHERE_ELSE, Redirects
from tests.device.device_world import free_port, sha256
from tests.device.raw_http import (
    Answer,
    Asked,
    Server,
    again_and_again,
    certified,
    has,
    reset,
    says,
    serving,
    stall,
    then,
)

DATA = random.Random(1).randbytes(256 * 1024)
HALF = len(DATA) // 2
QUICK = Patience(silence_seconds=0.2, seconds=0.5, bytes_per_second_min=10_000_000)
"""For servers that are slow on purpose."""
USUAL = Patience(silence_seconds=10, seconds=20)
WHOLE = f"Content-Range: bytes {HALF}-{len(DATA) - 1}/{len(DATA)}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        made.answers["/good"] = has(DATA)
        yield made


def fetch(
    path: Path, *sources: str, patience: Patience = USUAL, redirects: Redirects = NOWHERE_ELSE
) -> StepError | None:
    """Return how it failed, None if the file is there."""
    try:
        download(
            sources,
            path,
            size_bytes=len(DATA),
            sha256=sha256(DATA),
            is_cancelled=lambda: False,
            patience=patience,
            transports=Transports(redirects=redirects),
        )
    except StepError as error:
        assert not path.exists()
        assert size_of(part(path)) <= len(DATA), "never more than was announced"
        return error
    assert path.read_bytes() == DATA
    assert not part(path).exists()
    return None


def part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def paths(server: Server) -> list[tuple[str, int]]:
    return [(asked.path, asked.offset) for asked in server.asked]


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


GOOD: dict[str, Answer] = {
    "with_a_length": says("200 OK", DATA),
    "until_it_closes": says("200 OK", DATA, length=None),
    "in_chunks": says("200 OK", chunked(DATA[:1], DATA[1:]) + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=None),
    "on_a_connection_that_it_keeps": then(says("200 OK", DATA, "Connection: keep-alive"), stall),
    "in_chunks_on_a_connection_that_it_keeps": then(
        says("200 OK", chunked(DATA) + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=None), stall
    ),
    "with_an_encoding_that_it_is_not_in": says("200 OK", DATA, "Content-Encoding: gzip"),
    "after_saying_to_go_on": then(says("100 Continue", length=None), says("200 OK", DATA)),
}
BAD: dict[str, tuple[Answer, str]] = {
    "not_found": (says("404 Not Found", b"no such file"), "download_failed"),
    "error_with_an_endless_page": (
        then(says("500 Broken", length=None), again_and_again(b"x" * 9999)), "download_failed",
    ),
    "error_page_as_if_all_were_well": (says("200 OK", b"<html>Please log in</html>"), "size_mismatch"),
    "error_page_without_length": (says("200 OK", b"<html>Please log in</html>", length=None), "size_mismatch"),
    "other_bytes": (says("200 OK", DATA[:-1] + b"!"), "checksum_mismatch"),
    "truncated": (says("200 OK", DATA[:HALF], length=len(DATA)), "size_mismatch"),
    "truncated_without_length": (says("200 OK", DATA[:HALF], length=None), "size_mismatch"),
    "truncated_in_a_chunk": (
        says("200 OK", chunked(DATA)[:HALF], "Transfer-Encoding: chunked", length=None), "download_failed",
    ),
    "one_byte_more": (says("200 OK", DATA + b"!"), "size_mismatch"),
    "one_byte_more_without_length": (says("200 OK", DATA + b"!", length=None), "size_mismatch"),
    "endless": (then(says("200 OK", length=None), again_and_again(DATA)), "size_mismatch"),
    "endless_in_chunks": (
        then(says("200 OK", b"", "Transfer-Encoding: chunked", length=None), again_and_again(chunked(DATA))),
        "size_mismatch",
    ),
    "length_of_more": (says("200 OK", DATA, length=len(DATA) + 1), "size_mismatch"),
    "length_of_less": (says("200 OK", DATA, length=len(DATA) - 1), "size_mismatch"),
    "length_beyond_all_numbers": (says("200 OK", DATA, length=10**30), "size_mismatch"),
    "length_that_is_no_number": (says("200 OK", b"x", "Content-Length: many", length=None), "size_mismatch"),
    "nothing": (says("200 OK"), "size_mismatch"),
    "no_content": (says("204 No Content", length=None), "download_failed"),
    "compressed": (says("200 OK", b"\x1f\x8b" + bytes(500), "Content-Encoding: gzip"), "size_mismatch"),
    "a_range_that_nobody_wants": (says("206 Partial Content", DATA[HALF:], WHOLE), "download_failed"),
    "header_without_end": (
        then(lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\nX: "), again_and_again(b"x" * 9999)), "download_failed",
    ),
    "headers_without_end": (
        then(lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\n"), again_and_again(b"X: y\r\n")), "download_failed",
    ),
    "no_http": (lambda peer, _: peer.sendall(b"SSH-2.0-OpenSSH_9.9\r\n" * 50), "download_failed"),
    "no_answer": (reset, "download_failed"),
    "redirect_to_a_file": (says("302 Found", b"", "Location: file:///etc/passwd"), "download_failed"),
    "redirect_to_ftp": (says("302 Found", b"", "Location: ftp://127.0.0.1/x"), "download_failed"),
    "redirect_to_nonsense": (says("302 Found", b"", "Location: http://[::1/x"), "download_failed"),
    "redirect_to_a_port_that_is_none": (says("302 Found", b"", "Location: http://[::1]:99999/x"), "download_failed"),
    "redirect_to_letters_that_no_request_has": (says("302 Found", b"", "Location: /\u00e4"), "download_failed"),
    "redirect_to_itself": (says("302 Found", b"", "Location: /bad"), "download_failed"),
    "redirect_with_an_endless_page": (
        then(says("302 Found", b"", "Location: /gone", length=None), again_and_again(b"x" * 9999)), "download_failed",
    ),
    "redirect_to_nowhere": (says("302 Found"), "download_failed"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_whatever_way_the_bytes_come_they_are_taken_when_they_are_right(
    name: str, server: Server, tmp_path: Path
) -> None:
    server.answers["/it"] = GOOD[name]
    begun = time.monotonic()

    assert fetch(tmp_path / "f", f"{server.url}/it") is None

    assert time.monotonic() - begun < USUAL.silence_seconds, "nothing is waited for that does not come"


@pytest.mark.parametrize("name", BAD)
def test_bad_source_fails_with_its_reason_and_the_next_one_is_tried(name: str, server: Server, tmp_path: Path) -> None:
    server.answers["/gone"] = says("410 Gone")
    server.answers["/bad"], code = BAD[name]

    failure = fetch(tmp_path / "alone", f"{server.url}/bad")

    assert failure is not None
    assert (failure.code, failure.retryable) == (code, True)
    assert fetch(tmp_path / "f", f"{server.url}/bad", f"{server.url}/good") is None


@pytest.mark.parametrize("name", BAD)
def test_bad_source_costs_a_part_that_is_good_at_most_one_fetch_anew(name: str, server: Server, tmp_path: Path) -> None:
    server.answers["/gone"] = says("410 Gone")
    server.answers["/bad"], _ = BAD[name]
    part(tmp_path / "f").write_bytes(DATA[:HALF])

    assert fetch(tmp_path / "f", f"{server.url}/bad", f"{server.url}/good") is None


SLOW: dict[str, Answer] = {
    "silent_from_the_start": stall,
    "silent_after_its_headers": then(says("200 OK", b"", length=len(DATA)), stall),
    "silent_in_the_middle": then(says("200 OK", DATA[:HALF], length=len(DATA)), stall),
    "dripping": then(says("200 OK", b"", length=len(DATA)), again_and_again(b"x", partial(time.sleep, 0.02))),
    "dripping_in_its_headers": again_and_again(b"H", partial(time.sleep, 0.02)),
    "dripping_answers_that_mean_nothing": again_and_again(b"HTTP/1.1 100 Go on\r\n\r\n", partial(time.sleep, 0.02)),
}


@pytest.mark.parametrize("name", SLOW)
def test_slow_source_is_left_after_a_while_for_the_next_one(name: str, server: Server, tmp_path: Path) -> None:
    server.answers["/slow"] = SLOW[name]
    begun = time.monotonic()

    assert fetch(tmp_path / "f", f"{server.url}/slow", f"{server.url}/good", patience=QUICK) is None

    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("name", SLOW)
def test_cancelled_download_ends_soon_whatever_the_server_does(name: str, server: Server, tmp_path: Path) -> None:
    server.answers["/slow"] = SLOW[name]
    asked: list[int] = []

    def is_cancelled() -> bool:
        asked.append(1)
        return bool(server.asked) and len(asked) > 2

    with pytest.raises(CancelledError):
        download(
            [f"{server.url}/slow"], tmp_path / "f", size_bytes=len(DATA), sha256=sha256(DATA), is_cancelled=is_cancelled
        )


@pytest.mark.parametrize("ending", [lambda _peer, _asked: None, reset, stall], ids=["closed", "reset", "silent"])
def test_download_goes_on_where_it_was_cut_off(ending: Answer, server: Server, tmp_path: Path) -> None:
    def halfway(peer: socket.socket, asked: Asked) -> None:
        says("200 OK", DATA[:HALF], length=len(DATA))(peer, asked)
        peer.recv(1) if ending is stall else None
        while size_of(part(tmp_path / "f")) < HALF and ending is reset:
            time.sleep(0.01)  # what has not been read is lost with a reset
        ending(peer, asked)

    server.answers["/half"] = halfway

    failure = fetch(tmp_path / "f", f"{server.url}/half", patience=QUICK)

    assert failure is not None
    assert size_of(part(tmp_path / "f")) == HALF
    assert fetch(tmp_path / "f", f"{server.url}/good") is None
    assert paths(server) == [("/half", 0), ("/good", HALF)]


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (says("200 OK", DATA), [HALF]),
        (says("416 Range Not Satisfiable"), [HALF, 0]),
        (says("206 Partial Content", DATA, f"Content-Range: bytes 0-{len(DATA) - 1}/{len(DATA)}"), [HALF, 0]),
        (says("206 Partial Content", DATA[HALF:], f"{WHOLE}0"), [HALF, 0]),
        (says("206 Partial Content", DATA[HALF:], "Content-Range: nonsense"), [HALF, 0]),
        (says("206 Partial Content", DATA[HALF:]), [HALF, 0]),
        (says("206 Partial Content", DATA[:HALF], WHOLE), [HALF, 0]),
    ],
    ids=["ignores_it", "refuses_it", "sends_all", "other_size", "nonsense", "says_nothing", "other_bytes"],
)  # fmt: skip
def test_file_is_fetched_anew_from_a_server_that_does_not_resume(
    answer: Answer, requests: list[int], server: Server, tmp_path: Path
) -> None:
    server.answers["/it"] = lambda peer, asked: (answer if asked.offset else has(DATA))(peer, asked)
    part(tmp_path / "f").write_bytes(DATA[:HALF])

    assert fetch(tmp_path / "f", f"{server.url}/it") is None

    assert [asked.offset for asked in server.asked] == requests


@pytest.mark.parametrize("size", [1, HALF, len(DATA) - 1, len(DATA), len(DATA) + 1000])
def test_what_an_earlier_order_or_a_liar_has_left_does_not_stay_in_the_way(
    size: int, server: Server, tmp_path: Path
) -> None:
    part(tmp_path / "f").write_bytes(b"x" * size)

    assert fetch(tmp_path / "f", f"{server.url}/good") is None


def test_file_that_is_good_on_disk_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)

    assert fetch(tmp_path / "f", f"{server.url}/good") is None
    assert server.asked == []


def test_file_that_is_bad_on_disk_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA[:-1] + b"!")

    assert fetch(tmp_path / "f", f"{server.url}/good") is None


def test_redirect_to_a_host_that_is_named_is_followed_and_its_bytes_are_checked(server: Server, tmp_path: Path) -> None:
    with serving() as other:
        other.answers |= {"/good": has(DATA), "/bad": says("200 OK", DATA[:-1] + b"!")}
        for path in ("good", "bad"):
            server.answers[f"/to-{path}"] = says("307 Temporary Redirect", b"", f"Location: {other.url}/{path}")
        part(tmp_path / "f").write_bytes(DATA[:HALF])

        named = Redirects((other.url,))
        assert fetch(tmp_path / "f", f"{server.url}/to-good", redirects=named) is None
        failure = fetch(tmp_path / "g", f"{server.url}/to-bad", redirects=named)

    assert failure is not None
    assert failure.code == "checksum_mismatch"
    assert other.asked[0].offset == HALF, "the range goes along"


def test_redirect_to_another_host_is_not_followed_and_its_query_is_not_told(server: Server, tmp_path: Path) -> None:
    with serving() as other:
        server.answers["/away"] = says("307 Temporary Redirect", b"", f"Location: {other.url}/x?X-Amz-Signature=secret")

        failure = fetch(tmp_path / "f", f"{server.url}/away")

        assert other.asked == []
    assert failure is not None
    assert (failure.code, failure.retryable) == ("download_failed", True)
    assert str(failure).endswith(f"/away: redirects to {other.url}, which 'redirects' in the settings does not name")


def test_redirect_to_a_broken_address_is_refused_and_what_is_signed_in_it_is_not_told(
    server: Server, tmp_path: Path
) -> None:
    server.answers["/broken"] = says("307 Temporary Redirect", b"", "Location: /x?X-Amz-Signature=secret and more")

    failure = fetch(tmp_path / "f", f"{server.url}/broken")

    assert failure is not None
    assert "secret" not in str(failure)


def test_unreachable_source_is_left_for_the_next_one(server: Server, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/x"

    failure = fetch(tmp_path / "alone", nobody)

    assert failure is not None
    assert (failure.code, failure.retryable) == ("download_failed", True)
    assert fetch(tmp_path / "f", nobody, f"{server.url}/good") is None


@pytest.mark.parametrize(
    "source", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd", "", "http://", "http://[/"]
)
def test_only_http_is_fetched(source: str, tmp_path: Path) -> None:
    failure = fetch(tmp_path / "f", source)

    assert failure is not None
    assert failure.code == "download_failed"


def test_order_without_a_source_says_so(tmp_path: Path) -> None:
    failure = fetch(tmp_path / "f")

    assert failure is not None
    assert "names no source" in str(failure)


def test_download_onto_a_full_disk_gives_back_what_it_took(server: Server, tmp_path: Path) -> None:
    part(tmp_path / "f").symlink_to("/dev/full")

    failure = fetch(tmp_path / "f", f"{server.url}/good", f"{server.url}/good")

    assert failure is not None
    assert failure.code == "no_space"
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1, "another source makes no room"


def test_download_over_tls_from_a_server_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with certified(tmp_path, "localhost") as (server, certificate):
        server.answers["/good"] = has(DATA)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

        assert fetch(tmp_path / "f", f"{server.url}/good") is None


@pytest.mark.parametrize("name", ["localhost", "elsewhere"])
def test_server_that_cannot_prove_who_it_is_is_left_for_the_next_one(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with certified(tmp_path, name) as (imposter, certificate):
        if name == "elsewhere":  # otherwise the name is right, and nobody vouches for it
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

        failure = fetch(tmp_path / "alone", f"{imposter.url}/good")

        assert failure is not None
        assert failure.code == "download_failed"
        assert "certificate" in str(failure).lower()
        assert fetch(tmp_path / "f", f"{imposter.url}/good", f"{server.url}/good") is None
    assert imposter.asked == []
