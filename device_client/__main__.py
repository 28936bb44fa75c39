"""``tidegate-agent``: keeps one device's application at the version it was ordered to run.

Exit codes: 0 ended as told, 1 something of this device is broken, 2 wrong usage or settings.
"""

import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from device_client.adapters.boot import boot_seconds
from device_client.adapters.consent import Consent
from device_client.adapters.families import adopt_orphans
from device_client.adapters.heap import give_back, hold_little
from device_client.adapters.journal import Journal
from device_client.adapters.layout import LOCK, RECORD
from device_client.adapters.slots import Slots
from device_client.assembly import build_agent
from device_client.core.installing import PREPARING
from device_client.core.machine import ASKING
from device_client.provision import provision
from device_client.settings import Settings, SettingsError, broker_problem, load_settings
from device_client.units import DESTINATION, hidden_paths, install_units
from schemas.errors import FleetError

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
LOCK_SECONDS: Final = 1.0
"""A guardian that looks has the lock for a moment, and so has what a killed agent was about to start."""
LOCK_POLL_SECONDS: Final = 0.02

_log = logging.getLogger(__name__)


class BusyError(FleetError):
    """The operator's fault: another agent already runs on this folder."""


class NothingToAgreeError(FleetError):
    """The operator's fault: nothing waits for consent."""


def main() -> int:
    """Run the command line and return the exit code."""
    match sys.argv[1:]:
        case ["run", "--config", path]:  # what services type; the parser would be held for as long as they run
            return _attempt(lambda: _run(load_settings(Path(path))))
        case _:
            return _attempt(_parse_and_do)


def _attempt(does: Callable[[], int]) -> int:
    """Do it, and tell people what went wrong."""
    try:
        return does()
    except SettingsError as error:
        print(f"tidegate-agent: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (FleetError, OSError) as error:
        print(f"tidegate-agent: {error}", file=sys.stderr)
        return EXIT_ERROR


def _parse_and_do() -> int:
    import argparse  # noqa: PLC0415 - see main
    from importlib.metadata import version  # noqa: PLC0415 - see main

    parser = argparse.ArgumentParser(prog="tidegate-agent", description="Keeps one device at its ordered version.")
    parser.add_argument("--version", action="version", version=version("tidegate"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, does in (
        ("run", "run the agent until SIGTERM"),
        ("consent", "agree, at the device, to the install that waits for it"),
    ):
        verbs.add_parser(verb, help=does).add_argument("--config", type=Path, required=True, help="TOML file")
    told = verbs.add_parser(
        "status", help="print what this device remembers and waits for, and whom it trusts, as JSON"
    )
    told.add_argument("--config", type=Path, required=True, help="TOML file")
    told.add_argument("--text", action="store_true", help="for people, a line for each thing")
    first = verbs.add_parser("provision", help="put a first release on an empty device, from files")
    for option, what in (("--config", "TOML file"), ("--manifest", "signed manifest"), ("--artifact", "its archive")):
        first.add_argument(option, type=Path, required=True, help=what)
    service = verbs.add_parser("install-service", help="write systemd's units for the agent and its guardian")
    service.add_argument("--config", type=Path, required=True, help="TOML file")
    service.add_argument("--destination", type=Path, default=DESTINATION, help="folder of the units (%(default)s)")
    service.add_argument("--user", default="tidegate", help="whom they run as (%(default)s)")
    arguments = parser.parse_args()
    settings = load_settings(arguments.config)
    if arguments.verb == "install-service":
        return _install_service(settings, arguments.config, arguments.destination, arguments.user)
    if arguments.verb == "consent":
        return _consent(settings)
    if arguments.verb == "provision":
        return _provision(settings, arguments.manifest, arguments.artifact)
    return _run(settings) if arguments.verb == "run" else _status(settings, as_text=arguments.text)


def lock(settings: Settings) -> IO[str]:
    """Make sure that this is the only agent on its folder, for as long as the returned file is open.

    Raises:
        BusyError: It is not.
    """
    path = Slots(Path(settings.root)).state / LOCK
    file = path.open("w")
    give_up_at = boot_seconds() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if boot_seconds() >= give_up_at:
                file.close()
                busy = f"{path}: another agent runs here, or the guardian is at work; stop it first"
                raise BusyError(busy) from None
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return file


def _run(settings: Settings) -> int:
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    hold_little()
    with lock(settings):
        agent, record, facts = build_agent(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: agent.end())
        threading.excepthook = _end_at_once
        if settings.runtime.kind == "process":  # elsewhere they are another's, and nobody here would bury them
            adopt_orphans()
        give_back()
        _log.info("agent.started device=%s root=%s pid=%d", settings.device, settings.root, os.getpid())
        agent.run(record, facts)
    return 0


def _end_at_once(broken: threading.ExceptHookArgs) -> None:
    """End like a killed agent when a thread has a bug: the application goes on, and the next agent takes over."""
    _log.critical("agent.broken", exc_info=broken.exc_value)
    os._exit(EXIT_ERROR)


def _provision(settings: Settings, manifest: Path, archive: Path) -> int:
    with lock(settings):
        slots = Slots(Path(settings.root))
        content = provision(settings, slots, Journal(slots.state / RECORD), manifest, archive)
    print(f"{settings.device}: {content.release} is active in blue")
    return 0


def _install_service(settings: Settings, config: Path, destination: Path, user: str) -> int:
    names, commands = install_units(settings, config, destination, user)
    print("".join(f"wrote {destination / name}\n" for name in names), end="")
    for path in hidden_paths(settings, config):
        print(f"{path}: systemd hides /tmp and /var/tmp from services; move this first, and write the units again")
    problem = broker_problem(settings)
    if problem is not None:  # no refusal: images are made before devices have their certificates
        print(f"{config}: {problem}; until then the agent runs, and does not connect")
    print("Now type, as root:")
    print("".join(f"  {command}\n" for command in commands), end="")
    return 0


def _consent(settings: Settings) -> int:
    state = Slots(Path(settings.root)).state
    record = Journal(state / RECORD).load()
    order = record.desired
    if order is None or order.action != "install" or record.phase not in PREPARING | ASKING:
        raise NothingToAgreeError(f"{settings.device}: no install waits for consent; see tidegate-agent status")
    Consent(state).give(record.order_number)
    which = f"generation {record.generation}" if record.media is None else f"order {record.media.number} from a medium"
    print(f"{settings.device}: agreed to {order.release} ({which})")
    return 0


def _status(settings: Settings, *, as_text: bool) -> int:
    from device_client.adapters.clock import wall_seconds  # noqa: PLC0415 - see main
    from device_client.status import status_of, status_text  # noqa: PLC0415 - see main

    status = status_of(settings, wall_seconds())
    print(status_text(status) if as_text else f"{json.dumps(status, indent=1)}\n", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
