"""A site as network namespaces: one for each device, a bridge, and a line to the centre that is narrow and far.

The centre is the namespace of whoever calls, with the registry on one address and the broker on another; all is gone
with it, see ``make site``. Links carry what ``tc tbf`` lets through, the line's frames arrive as late as
``tests.site.line`` lets them, and what crosses a link is what its interface has counted.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REGISTRY: Final = "10.62.1.1"
BROKER: Final = "10.62.2.1"
_LAN: Final = "10.60.0.0/24"
_BUFFER_MS: Final = 200
"""What waits before a link at most; what comes beyond that is dropped, as routers do."""
_BURST_BYTES: Final = 16 * 1024
_READY: Final = b"ready"


@dataclass(frozen=True, slots=True)
class Links:
    """What links carry.

    Attributes:
        line_mbit: The site's line, in each direction, in megabits a second.
        line_ms: From one end of it to the other, and back.
        device_mbit: A device's link, in each direction.
        slow_mbit: The link of those that are slow.
    """

    line_mbit: float = 20.0
    line_ms: float = 40.0
    device_mbit: float = 50.0
    slow_mbit: float = 2.0


def missing() -> str:
    """Say what this machine lacks for it; empty if nothing."""
    programs = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if programs:
        return f"{' and '.join(programs)} not installed: apt install iproute2"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun is not there: modprobe tun"
    return ""


def address(number: int) -> str:
    """Return the address of a device in the site."""
    return f"10.60.0.{number + 10}"


def inside(name: str) -> tuple[str, ...]:
    """Return what a command begins with that runs in the namespace ``name``."""
    return ("ip", "netns", "exec", name)


@contextmanager
def site(names: Sequence[str], slow: Sequence[str], links: Links) -> Iterator[None]:
    """Build the centre's two links, the line, and the site with a namespace for each of ``names``.

    Raises:
        AssertionError: The kernel refuses something; the text says what.
    """
    Path("/run/netns").mkdir(parents=True, exist_ok=True)
    _ip("link set lo up")
    _router("exchange")
    _router("site")
    for table, (link, here) in enumerate((("registry", REGISTRY), ("broker", BROKER)), start=1):
        there = here.removesuffix(".1") + ".2"
        _pair(link, "", link, "exchange")
        _ip(f"addr add {here}/24 dev {link}")
        _ip(f"addr add {there}/24 dev {link}", "exchange")
        _ip(f"route add default via {there} dev {link} table {table}")
        _ip(f"rule add from {here} table {table}")  # so that each answers over its own link
    line = subprocess.Popen(
        [*inside("exchange"), sys.executable, "-m", "tests.site.line", "site", str(links.line_ms)],
        stdout=subprocess.PIPE,
    )
    try:
        assert line.stdout is not None
        assert line.stdout.readline().strip() == _READY, "the line could not be made; it says why above"
        for name, end, other_end, beyond in (("exchange", 1, 2, _LAN), ("site", 2, 1, "default")):
            _ip(f"addr add 10.63.0.{end}/30 dev line", name)
            _ip("link set line up", name)
            _ip(f"route add {beyond} via 10.63.0.{other_end}", name)
            _limit("line", links.line_mbit, name)
        _lan(names, slow, links)
        yield
    finally:
        line.kill()
        line.wait()
    _take_down(names)


def _take_down(names: Sequence[str]) -> None:
    """Leave room for the next site; links go by themselves only some time after their namespace."""
    for table, link in enumerate(("registry", "broker"), start=1):
        _ip(f"rule del table {table}")
        _ip(f"link del {link}")
    for name in (*names, "site", "exchange"):
        _ip(f"netns del {name}")


@dataclass(frozen=True, slots=True)
class Counted:
    """What has crossed a link, with all headers, as seen from its namespace."""

    sent_bytes: int
    got_bytes: int


def counters(namespace: str = "") -> dict[str, Counted]:
    """Return what has crossed each link of a namespace."""
    told = json.loads(_ip("-s -j link show", namespace))
    return {each["ifname"]: Counted(each["stats64"]["tx"]["bytes"], each["stats64"]["rx"]["bytes"]) for each in told}


def _lan(names: Sequence[str], slow: Sequence[str], links: Links) -> None:
    _ip("link add lan type bridge", "site")
    _ip("addr add 10.60.0.1/24 dev lan", "site")
    _ip("link set lan up", "site")
    for number, name in enumerate(names):
        _ip(f"netns add {name}")
        _ip("link set lo up", name)
        _pair("uplink", name, name, "site")
        _ip(f"link set {name} master lan", "site")
        _ip(f"addr add {address(number)}/24 dev uplink", name)
        _ip("route add default via 10.60.0.1", name)
        mbit = links.slow_mbit if name in slow else links.device_mbit
        _limit("uplink", mbit, name)
        _limit(name, mbit, "site")


def _router(name: str) -> None:
    _ip(f"netns add {name}")
    _ip("link set lo up", name)
    _run([*inside(name), "sysctl", "-qw", "net.ipv4.ip_forward=1"])


def _pair(one: str, namespace: str, other: str, other_namespace: str) -> None:
    """Join two namespaces by a link; nothing is put together on it, so that its counters know every header."""
    _ip(f"link add {one} type veth peer name {other} netns {other_namespace}", namespace)
    for link, where in ((one, namespace), (other, other_namespace)):
        _ip(f"link set {link} gso_max_segs 1 up", where)


def _limit(link: str, mbit: float, namespace: str) -> None:
    limit = f"rate {mbit}mbit burst {_BURST_BYTES} latency {_BUFFER_MS}ms"
    _run([*inside(namespace), "tc", *f"qdisc add dev {link} root tbf {limit}".split()])


def _ip(words: str, namespace: str = "") -> str:
    return _run(["ip", *(["-n", namespace] if namespace else []), *words.split()])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
