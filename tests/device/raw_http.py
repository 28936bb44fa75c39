"""An HTTP server on the loopback that says exactly what a test wants, byte for byte."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Asked:
    """A request: its path, and where its range begins."""

    path: str
    offset: int


Answer = Callable[[socket.socket, Asked], None]


@dataclass
class Server:
    """What it answers to each path, and what it was asked."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve until the end; whoever is still being answered then is cut off."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}")
    open_ones: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            open_ones.append(peer)
            threads.append(threading.Thread(target=answer, args=(peer,)))
            threads[-1].start()

    def answer(peer: socket.socket) -> None:
        with suppress(OSError):
            connected = peer if tls is None else tls.wrap_socket(peer, server_side=True)
            open_ones.append(connected)
            asked = read_request(connected)
            server.asked.append(asked)
            server.answers[asked.path](connected, asked)
            connected.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for peer in open_ones:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        for each in threads:
            each.join()


@contextmanager
def certified(folder: Path, name: str) -> Iterator[tuple[Server, Path]]:
    """A server with a certificate of its own for ``name``, and that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2120, 1, 1, tzinfo=dt.UTC))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with serving(context) as server:
        yield server, folder / "certificate.pem"


def read_request(peer: socket.socket) -> Asked:
    received = b""
    while b"\r\n\r\n" not in received:
        part = peer.recv(4096)
        if not part:
            raise ConnectionResetError
        received += part
    lines = received.decode("latin-1").split("\r\n")
    ranges = [line.removeprefix("Range: bytes=") for line in lines if line.startswith("Range: ")]
    return Asked(lines[0].split(" ")[1], int(ranges[0].removesuffix("-")) if ranges else 0)


def says(status: str, body: bytes = b"", *headers: str, length: int | None = -1) -> Answer:
    """Answer so; ``length`` is what is announced, None for nothing, -1 for the truth."""

    def answer(peer: socket.socket, _: Asked) -> None:
        announced = [] if length is None else [f"Content-Length: {len(body) if length < 0 else length}"]
        head = "\r\n".join([f"HTTP/1.1 {status}", *announced, *headers])
        peer.sendall(f"{head}\r\n\r\n".encode() + body)

    return answer


def has(data: bytes) -> Answer:
    """Answer like a server that has ``data`` and knows ranges."""

    def answer(peer: socket.socket, asked: Asked) -> None:
        if asked.offset:
            span = f"Content-Range: bytes {asked.offset}-{len(data) - 1}/{len(data)}"
            says("206 Partial Content", data[asked.offset :], span)(peer, asked)
        else:
            says("200 OK", data)(peer, asked)

    return answer


def reset(peer: socket.socket, _: Asked) -> None:
    """Cut the connection as if the other host were gone."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


def then(*parts: Answer) -> Answer:
    """Do one after the other on the same connection."""

    def answer(peer: socket.socket, asked: Asked) -> None:
        for part in parts:
            part(peer, asked)

    return answer


def again_and_again(data: bytes, pause: Callable[[], object] = lambda: None) -> Answer:
    """Send ``data`` until the other side has had enough."""

    def answer(peer: socket.socket, _: Asked) -> None:
        while True:
            peer.sendall(data)
            pause()

    return answer


def stall(peer: socket.socket, _: Asked) -> None:
    """Send nothing any more, and keep the connection until the other side leaves."""
    with suppress(OSError):
        while peer.recv(4096):
            pass
