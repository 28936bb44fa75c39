"""``tidegate-guardian``: brings a device's previous version back when its agent cannot.

Exit codes: 1 something of this device is broken, 2 wrong usage or settings; it ends by signals only.
"""

import argparse
import logging
import sys
import time
import tomllib
from pathlib import Path
from typing import Final, NoReturn

from device_client.adapters.layout import STATE
from device_client.guardian.seen import Patience
from device_client.guardian.watch import GUARDIAN_LOCK, Guardian, locked

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
LOOK_SECONDS: Final = 2.0

_log = logging.getLogger("guardian")


class SettingsError(Exception):
    """The operator's fault. The text names file, key and remedy."""


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
        root, port = load_settings(arguments.config)
        (root / STATE).mkdir(parents=True, exist_ok=True)
        with locked(root / STATE / GUARDIAN_LOCK) as is_ours:
            if is_ours:
                watch(Guardian(root, port, Patience(arguments.silence_seconds)))
        print(f"tidegate-guardian: {root}: another guardian runs here; stop it first", file=sys.stderr)
    except SettingsError as error:
        print(f"tidegate-guardian: {error}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"tidegate-guardian: {error}", file=sys.stderr)
    return EXIT_ERROR


def load_settings(path: Path) -> tuple[Path, int]:
    """Return the device's folder and its application's port; everything else there is for the agent.

    Raises:
        SettingsError: The file cannot be read, or one of the two cannot be used.
    """
    try:
        tree = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a readable file with --config") from error
    except ValueError as error:
        raise SettingsError(f"{path}: no valid TOML: {error}; correct that place") from error
    root, port = tree.get("root"), tree.get("port")
    if not isinstance(root, str):
        raise SettingsError(f"{path}: key 'root' is not the path of a folder; correct it")
    if not isinstance(port, int) or isinstance(port, bool):
        raise SettingsError(f"{path}: key 'port' is not a number; correct it")
    return path.resolve().parent / root, port


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
