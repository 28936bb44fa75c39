"""The far end of a site's line: a program that joins two namespaces and lets each frame arrive a while later.

It makes a link ``line`` in its own namespace and one in the namespace that it is told, and carries every frame from one
to the other, each way after half of the time there and back. Where the kernel has no netem, that is what a line far
away takes. How much the line carries is limited by ``tc`` on both links.
"""

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x0002 | 0x1000
_FRAME_BYTES_MAX: Final = 2048


def make_link(name: str) -> int:
    """Make a link whose other end is this program; return its file."""
    link = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(link, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return link


def carry(one: int, other: int, seconds: float) -> None:
    """Carry frames both ways for ever."""
    under_way: dict[int, deque[tuple[float, bytes]]] = {one: deque(), other: deque()}
    while True:
        due = min((frames[0][0] for frames in under_way.values() if frames), default=None)
        patience = None if due is None else max(0.0, due - time.monotonic())
        for link in select.select([one, other], [], [], patience)[0]:
            to = other if link == one else one
            under_way[to].append((time.monotonic() + seconds, os.read(link, _FRAME_BYTES_MAX)))
        now = time.monotonic()
        for link, frames in under_way.items():
            while frames and frames[0][0] <= now:
                try:
                    os.write(link, frames.popleft()[1])
                except OSError:  # as a line loses a frame
                    continue


def main() -> None:
    """Make the line and say that it is there."""
    namespace, milliseconds = sys.argv[1], float(sys.argv[2])
    here, there = make_link("line"), make_link("far")
    subprocess.run(["ip", "link", "set", "far", "netns", namespace, "name", "line"], check=True)
    print("ready", flush=True)
    carry(here, there, milliseconds / 1000 / 2)


if __name__ == "__main__":
    main()
