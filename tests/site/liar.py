"""A device that gives its neighbours something else: the right number of bytes, one of them another."""

import sys
import time
from pathlib import Path

from device_client.adapters.peer_server import PeerLimits, PeerServer
from device_client.adapters.peer_stock import Stock
from device_client.adapters.slots import Slots


class FalseStock(Stock):
    """What the verified slots have, and each chunk of it is false."""

    def get(self, sha256: str) -> bytes | None:
        """Return the chunk of that name with another first byte."""
        data = super().get(sha256)
        return None if data is None else bytes([data[0] ^ 1]) + data[1:]


def main() -> None:
    """Give what the device in the folder has, at an address, until somebody ends it."""
    slots = Slots(Path(sys.argv[1]))
    server = PeerServer(slots, sys.argv[2], int(sys.argv[3]), PeerLimits())
    server._stock = FalseStock(slots)
    server.start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
