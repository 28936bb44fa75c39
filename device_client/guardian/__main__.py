"""``tidegate-guardian``: brings a device's previous version back when its agent cannot.

Exit codes: 1 something of this device is broken, 2 wrong usage or settings; it ends by signals only.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from device_client.adapters.families import adopt_orphans
from device_client.adapters.layout import STATE
from device_client.adapters.process_host import ProcessHost
from device_client.guardian.seen import Patience
from device_client.guardian.settings import SettingsError, load_place
from device_client.guardian.watch import GUARDIAN_LOCK, Guardian, locked

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
LOOK_SECONDS: Final = 2.0

_log = logging.getLogger("guardian")


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="tidegate-guardian", description="Brings the previous version back.")
    usual = Patience()
    parser.add_argument("--config", type=Path, required=True, help="the agent's TOML file")
    parser.add_argument(
        "--silence-seconds", type=float, default=usual.silence_seconds, help="of an agent during a trial (%(default)s)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        place = load_place(arguments.config)
        (place.root / STATE).mkdir(parents=True, exist_ok=True)
        with locked(place.root / STATE / GUARDIAN_LOCK) as is_ours:
            if is_ours:
                if isinstance(place.host, ProcessHost):  # elsewhere they are another's, and nobody would bury them
                    adopt_orphans()
                watch(Guardian(place, Patience(arguments.silence_seconds)))
        print(f"tidegate-guardian: {place.root}: another guardian runs here; stop it first", file=sys.stderr)
    except SettingsError as error:
        print(f"tidegate-guardian: {error}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"tidegate-guardian: {error}", file=sys.stderr)
    return EXIT_ERROR


def watch(guardian: Guardian) -> NoReturn:
    """Look again and again; what cannot be done now is tried with the next look, and said once."""
    said = ""
    while True:
        try:
            guardian.look()
            said = ""
        except OSError as error:
            if str(error) != said:
                _log.error("guardian.failed reason=%s", error)
            said = str(error)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
