"""The broker as a program: ``python -m embedded_broker``.

Prints one line of JSON when it listens, serves until SIGTERM or SIGINT, and exits with 0; with 1 and one line on
standard error if it cannot start or can no longer store what it acknowledges. On SIGHUP it reads passwords and access
rules again, as mosquitto does; a file that is wrong changes nothing.
"""

import argparse
import asyncio
import gc
import getpass
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from embedded_broker.acl import parse_acl
from embedded_broker.errors import ConfigurationError, StoreError
from embedded_broker.hub import HubLimits
from embedded_broker.passwords import Passwords, hash_password, parse_passwords
from embedded_broker.server import Listening, ServerConfig, serving
from embedded_broker.state import Authorizer, BrokerConfig, allow_all
from schemas.errors import FleetError

T = TypeVar("T")
_LOG: Final = logging.getLogger("embedded_broker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # It logs each connection, and each bad handshake with a traceback: anybody could fill the log.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    try:
        if options.hash_password is not None:
            print(hash_password(options.hash_password, _read_password()))
            return 0
        config = _server_config(options)
        # Hundreds of thousands of small values live long here and hold no cycles: looking for some takes a quarter of
        # the time at the usual thresholds.
        gc.set_threshold(100_000, 50, 50)
        error = asyncio.run(_serve(config, options))
        if error is not None:
            raise error
    except FleetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults, limits = BrokerConfig(), HubLimits()
    parser = argparse.ArgumentParser(
        prog="python -m embedded_broker",
        description="An MQTT 3.1.1 and 5 broker for trying out, tests and small fleets. Not for production.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; other than loopback needs --passwords")
    add("--port", type=_port, default=1883, help="TCP port, 0 for any free one (default %(default)s)")
    add("--websocket-port", type=_port, help="port for MQTT over WebSocket, 0 for any free one; none without")
    add("--database", type=Path, metavar="PATH", help="keep sessions and retained messages here; memory only without")
    add("--acl", type=Path, metavar="FILE", help="access rules in the language of mosquitto's acl_file")
    add("--passwords", type=Path, metavar="FILE", help="users and hashed passwords in mosquitto's format")
    add("--packet-size-max-bytes", type=_positive, default=defaults.packet_size_max_bytes, metavar="N")
    add("--queued-max", type=_positive, default=defaults.queued_max, metavar="N", help="waiting messages per session")
    add("--inflight-max", type=_positive, default=defaults.inflight_max, metavar="N", help="unanswered per session")
    own_max = defaults.sessions_per_user_max
    add("--sessions-per-user-max", type=_positive, default=own_max, metavar="N", help="only with --passwords")
    add("--connections-max", type=_positive, default=limits.connections_max, metavar="N")
    add("--exit-with-parent", action="store_true", help="exit when standard input is closed")
    add("--hash-password", metavar="USER", help="read a password, print its line for the password file, and exit")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:  # noqa: PLR2004 - the range of ports
        raise argparse.ArgumentTypeError("a port is 0..65535")
    return port


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _read_password() -> bytes:
    return (getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")).encode()


def _server_config(options: argparse.Namespace) -> ServerConfig:
    passwords, authorize = _access(options)
    return ServerConfig(
        host=options.host,
        port=options.port,
        websocket_port=options.websocket_port,
        database=options.database,
        passwords=passwords,
        authorize=authorize,
        broker=BrokerConfig(
            packet_size_max_bytes=options.packet_size_max_bytes,
            queued_max=options.queued_max,
            inflight_max=options.inflight_max,
            sessions_per_user_max=options.sessions_per_user_max,
        ),
        limits=HubLimits(connections_max=options.connections_max),
    )


def _access(options: argparse.Namespace) -> tuple[Passwords | None, Authorizer]:
    """Read who may connect and what they may do; raises ConfigurationError where a file is wrong."""
    acl = _parsed(options.acl, lambda text: parse_acl(text, source=str(options.acl)))
    passwords = _parsed(options.passwords, lambda text: parse_passwords(text, source=str(options.passwords)))
    return passwords, allow_all if acl is None else acl.authorizer()


def _parsed(path: Path | None, parse: Callable[[str], T]) -> T | None:
    if path is None:
        return None
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error}); name a readable UTF-8 file") from error


async def _serve(config: ServerConfig, options: argparse.Namespace) -> StoreError | None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    failed: asyncio.Future[StoreError] = loop.create_future()
    failed.add_done_callback(lambda _: stopped.set())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving(config, failed) as listening:
        loop.add_signal_handler(signal.SIGHUP, _admit_anew, options, listening)
        _announce(listening)
        if options.exit_with_parent:
            threading.Thread(target=_await_end_of_input, args=(loop, stopped), daemon=True).start()
        await stopped.wait()
    return failed.result() if failed.done() else None


def _admit_anew(options: argparse.Namespace, listening: Listening) -> None:
    """Read the files again, all of them or none."""
    if options.acl is None and options.passwords is None:
        _LOG.info("SIGHUP: there is no password file and no access list to read again")
        return
    try:
        passwords, authorize = _access(options)
    except ConfigurationError as error:
        _LOG.error("SIGHUP: %s; passwords and access rules are what they were", error)
        return
    ended = listening.admit(passwords, authorize)
    _LOG.info("SIGHUP: passwords and access rules were read again; %d connections ended", ended)


def _announce(listening: Listening) -> None:
    ports = {"mqtt": listening.port, "websocket": listening.websocket_port}
    print(json.dumps({"listening": ports, "pid": os.getpid()}), flush=True)


def _await_end_of_input(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stopped.set)


if __name__ == "__main__":
    sys.exit(main())
