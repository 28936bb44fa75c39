"""What ``tidegate-agent status`` tells: what this device remembers, what runs, and whose word counts on it.

It reads what is on the disk, and changes nothing.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from device_client.adapters.hosts import host_of
from device_client.adapters.journal import Journal
from device_client.adapters.layout import RECORD
from device_client.adapters.slots import Slots
from device_client.adapters.trust import TrustRoot
from device_client.core.fetching import CLOCK_MIN
from device_client.settings import Settings, SettingsError, broker_problem, trust_of
from schemas.dsse import key_id

Status = dict[str, Any]
_EXPIRED: Final = "root {} expired on {}, by this device's clock: nothing new is activated until a newer root comes"


def status_of(settings: Settings, now: float) -> Status:
    """Return it for JSON.

    Args:
        settings: Of the device.
        now: Seconds since the epoch by this device's clock, which may be wrong.
    """
    root = Path(settings.root)
    slots = Slots(root)
    record = Journal(slots.state / RECORD).load()
    host = host_of(root, settings.runtime.model_dump(), settings.limits.model_dump())
    running = [
        {"pid": found.process.pid if found.process is not None else None, "slot": found.slot, "role": found.role}
        for found in host.find()
    ]
    return {
        "device": settings.device,
        "phase": record.phase,
        "generation": record.generation,
        "media_order": record.media.number if record.media is not None else None,
        "active": slots.active(),
        "verified": {slot: content.version for slot, content in slots.verified().items()},
        "running": running,
        "release": record.desired.release if record.desired is not None else None,
        "error": record.error.model_dump() if record.error is not None else None,
        "trust": trust_status(settings, slots.state, now),
        "broker": {"problem": broker_problem(settings) or ""},
    }


def trust_status(settings: Settings, state: Path, now: float) -> Status:
    """Return whose word counts, by the ids of keys; ``problem`` says what is wrong with it, empty if nothing.

    Args:
        settings: Which way keys are named.
        state: The folder in which the newest trust root is kept.
        now: Seconds since the epoch by this device's clock; ``expired`` is None while that was never set.
    """
    try:
        trust = trust_of(settings, state)
    except SettingsError as error:
        return {"source": None, "problem": f"nothing can be verified: {error}"}
    if not isinstance(trust, TrustRoot):
        pinned = settings.gpg_fingerprints or _ids(settings.release_keys or ())
        keys = {"release_keys": list(pinned), "command_keys": _ids(settings.command_keys or ())}
        return {"source": "settings", **keys, "problem": ""}
    root = trust.root
    expired = None if root.expires is not None and now < CLOCK_MIN else root.has_expired(now)
    problem = trust.damage
    if expired:
        problem = "; ".join(filter(None, (problem, _EXPIRED.format(root.version, root.expires))))
    return {
        "source": "root",
        "version": root.version,
        "release_keys": _ids(root.release.raw_keys),
        "release_threshold": root.release.threshold,
        "command_keys": _ids(root.command.raw_keys),
        "revoked": list(root.revoked),
        "release_counter_min": root.release_counter_min,
        "expires": root.expires,
        "expired": expired,
        "problem": problem,
    }


def status_text(status: Status) -> str:
    """Write it for people, one line for each thing."""
    error, trust = status["error"], status["trust"]
    verified = ", ".join(f"{version} in {slot}" for slot, version in status["verified"].items())
    running = ", ".join(f"{each['role']} in {each['slot']} (pid {each['pid']})" for each in status["running"])
    lines = [
        ("device", status["device"]),
        ("phase", f"{status['phase']}, generation {status['generation']}"),
        ("order", status["release"] or "none"),
        ("active", status["active"] or "nothing"),
        ("verified", verified or "nothing"),
        ("running", running or "nothing"),
        ("error", f"{error['code']} at {error['step']}: {error['message']}" if error else "none"),
        *_trust_lines(trust),
    ]
    if status["broker"]["problem"]:
        lines.append(("PROBLEM", f"no connection to the broker: {status['broker']['problem']}"))
    return "".join(f"{name:<9} {told}\n" for name, told in lines)


def _trust_lines(trust: Status) -> Iterable[tuple[str, str]]:
    if trust["source"] == "root":
        until = f"until {trust['expires']}" if trust["expires"] else "never expires"
        unknown = "; this device's clock was never set, so nobody knows here" if trust["expired"] is None else ""
        yield "trust", f"root {trust['version']}, {until}{unknown}"
        least = trust["release_counter_min"]
        revoked = [*trust["revoked"], *([f"every counter below {least}"] if least else [])]
        yield "revoked", ", ".join(revoked) or "nothing"
        yield "releases", f"signed by {trust['release_threshold']} of {', '.join(trust['release_keys'])}"
    elif trust["source"] is not None:
        yield "trust", "the keys in its settings"
        yield "releases", f"signed by {' or '.join(trust['release_keys'])}"
    if trust["source"] is not None:
        yield "grants", f"signed by {' or '.join(trust['command_keys'])}"
    if trust["problem"]:
        yield "PROBLEM", trust["problem"]


def _ids(keys: Iterable[bytes]) -> list[str]:
    return [key_id(key) for key in keys]
