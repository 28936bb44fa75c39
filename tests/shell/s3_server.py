"""A small object store that speaks S3 and is strict: every request's signature (SigV4) is computed anew, and its time.

It knows objects, ranges, conditions and uploads in parts. What it is asked and what it answered is written down.
"""

import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from orchestrator.adapters.clock import now

ACCESS_KEY: Final = "AKIATIDEGATETEST"
SECRET_KEY: Final = "a-secret/key+that/nobody+may=see"
BUCKET, REGION = "releases-bucket", "eu-north-1"
_SKEW_SECONDS: Final = 900
_EXPIRES_SECONDS_MAX: Final = 604_800
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
Disturb = Callable[["Exchange"], bool]
"""Says whether it has dealt with a request itself."""


@dataclass
class Exchange:
    """One request, and how to answer it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    handler: BaseHTTPRequestHandler

    @property
    def key(self) -> str:
        """The object, without its bucket."""
        return unquote(self.path).removeprefix(f"/{BUCKET}/")

    @property
    def is_presigned(self) -> bool:
        return "X-Amz-Signature" in self.query

    def say(self, status: int, body: bytes = b"", *headers: tuple[str, str], length: int | None = None) -> None:
        self.handler.send_response(status)
        for name, value in headers:
            self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(body) if length is None else length))
        self.handler.end_headers()
        if self.method != "HEAD":
            self.handler.wfile.write(body)

    def cut(self, body: bytes) -> None:
        """Send a part of what was promised."""
        self.handler.close_connection = True
        self.say(200, body, length=len(body) + 500)

    def stall(self) -> None:
        """Say nothing until the client goes away."""
        self.handler.close_connection = True
        self.handler.rfile.read(1)

    def refuse(self, status: int, code: str, said: str = "") -> None:
        self.say(status, f"<Error><Code>{code}</Code><Message>{said}</Message></Error>".encode())


@dataclass
class S3:
    """What is in it, and what it was asked.

    Attributes:
        ahead_seconds: By how much its clock is ahead of everybody else's.
        disturb: Asked before anything else.
        connections: How many there were.
    """

    url: str
    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    ahead_seconds: float = 0.0
    connections: int = 0
    disturb: Disturb = lambda _: False
    guard: threading.RLock = field(default_factory=threading.RLock)

    def count(self, method: str, folder: str, status: int = 200) -> int:
        return sum(each[0] == method and each[1].startswith(folder) and each[2] == status for each in self.asked)

    def environment(self) -> dict[str, str]:
        """Return how a client is told of it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }

    def answer(self, exchange: Exchange) -> None:
        problem = check_signature(exchange, SECRET_KEY, now() + self.ahead_seconds)
        if problem is not None:
            exchange.refuse(403, *problem)
        elif not exchange.path.startswith(f"/{BUCKET}/"):
            exchange.refuse(404, "NoSuchBucket")
        else:
            getattr(self, f"_{exchange.method.lower()}")(exchange)

    def _head(self, exchange: Exchange) -> None:
        self._get(exchange)

    def _get(self, exchange: Exchange) -> None:
        data = self.objects.get(exchange.key)
        if data is None:
            exchange.refuse(404, "NoSuchKey")
            return
        headers = (("ETag", etag(data)), ("Last-Modified", "Sun, 29 Nov 2026 10:00:00 GMT"))
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", exchange.headers.get("range", ""))
        if asked is None:
            exchange.say(200, data, *headers)
        elif (start := int(asked[1])) >= len(data):
            exchange.refuse(416, "InvalidRange")
        else:
            part = data[start : int(asked[2] or len(data)) + 1]
            span = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
            exchange.say(206, part, *headers, ("Content-Range", span))

    def _put(self, exchange: Exchange) -> None:
        if "uploadId" in exchange.query:
            self.uploads[exchange.query["uploadId"]][int(exchange.query["partNumber"])] = exchange.body
            exchange.say(200, b"", ("ETag", etag(exchange.body)))
            return
        with self.guard:
            there = self.objects.get(exchange.key)
            wanted = exchange.headers.get("if-match")
            if (exchange.headers.get("if-none-match") == "*" and there is not None) or (
                wanted is not None and wanted != (there and etag(there))
            ):
                exchange.refuse(412, "PreconditionFailed")
                return
            self.objects[exchange.key] = exchange.body
        exchange.say(200, b"", ("ETag", etag(exchange.body)))

    def _post(self, exchange: Exchange) -> None:
        if "uploads" in exchange.query:
            name = f"upload-{len(self.uploads)}"
            self.uploads[name] = {}
            exchange.say(200, f"<R><UploadId>{name}</UploadId></R>".encode())
            return
        parts = self.uploads.pop(exchange.query["uploadId"])
        self.objects[exchange.key] = b"".join(parts[number] for number in sorted(parts))
        exchange.say(200, b'<R><ETag>"whole"</ETag></R>')

    def _delete(self, exchange: Exchange) -> None:
        self.uploads.pop(exchange.query.get("uploadId", ""), None)
        exchange.say(204)


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def check_signature(exchange: Exchange, secret: str, at: float) -> tuple[str, str] | None:
    """Return why a request is refused, as S3 says it; None if it is signed as it must be, and its time has not passed.

    Source:
        Amazon S3, "Authenticating Requests (AWS Signature Version 4)": headers, and query parameters.
    """
    said = exchange.query if exchange.is_presigned else _from_header(exchange.headers.get("authorization", ""))
    try:
        access_key, day, region, service, ending = said["X-Amz-Credential"].split("/")
        moment = exchange.query["X-Amz-Date"] if exchange.is_presigned else exchange.headers["x-amz-date"]
        names, signature = said["X-Amz-SignedHeaders"].split(";"), said["X-Amz-Signature"]
        payload = _UNSIGNED if exchange.is_presigned else exchange.headers["x-amz-content-sha256"]
        began_at = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        seconds = int(exchange.query["X-Amz-Expires"]) if exchange.is_presigned else _SKEW_SECONDS
    except (KeyError, ValueError):
        return "AccessDenied", "not signed"
    unsigned = {name for name in exchange.headers if name == "host" or name.startswith("x-amz-")} - set(names)
    if access_key != ACCESS_KEY and secret == SECRET_KEY:
        return "InvalidAccessKeyId", access_key
    if (service, ending) != ("s3", "aws4_request") or not moment.startswith(day) or unsigned:
        return "AuthorizationHeaderMalformed", f"not signed: {unsigned}"
    if payload not in (_UNSIGNED, hashlib.sha256(exchange.body).hexdigest()):
        return "XAmzContentSHA256Mismatch", ""
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(exchange.query.items())
        if name != "X-Amz-Signature"
    )
    headers = "".join(f"{name}:{' '.join(exchange.headers.get(name, '').split())}\n" for name in names)
    path = quote(unquote(exchange.path), safe="/-_.~")
    request = "\n".join((exchange.method, path, query, headers, ";".join(names), payload))
    scope = f"{day}/{region}/{service}/{ending}"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = reduce(_hmac, (day, region, service, ending), f"AWS4{secret}".encode())
    if not hmac.compare_digest(_hmac(key, text).hex(), signature):
        return "SignatureDoesNotMatch", text
    if not 0 < seconds <= _EXPIRES_SECONDS_MAX or began_at > at + _SKEW_SECONDS:
        return "AuthorizationQueryParametersError", ""
    if at > began_at + seconds:
        return ("AccessDenied", "Request has expired") if exchange.is_presigned else ("RequestTimeTooSkewed", "")
    return None


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _from_header(text: str) -> dict[str, str]:
    scheme, _, rest = text.partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        return {}
    return {f"X-Amz-{name.strip()}": value for name, _, value in (each.partition("=") for each in rest.split(","))}


@contextmanager
def s3_server() -> Iterator[S3]:
    """Serve an empty bucket over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 20

        def setup(self) -> None:
            super().setup()
            with made.guard:
                made.connections += 1

        def log_message(self, *_: object) -> None:
            pass

        def send_response(self, code: int, message: str | None = None) -> None:
            with made.guard:
                made.asked.append((self.command, self.made_exchange.key, code))
            super().send_response(code, message)

        def _do(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", "0"))
            self.made_exchange = Exchange(
                self.command,
                parts.path,
                dict(parse_qsl(parts.query, keep_blank_values=True)),
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
                self,
            )
            with suppress(OSError):
                if not made.disturb(self.made_exchange):
                    made.answer(self.made_exchange)

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._do)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # clients that leave are part of the test

    server = Server(("127.0.0.1", 0), Handler)
    made = S3(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
