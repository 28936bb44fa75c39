"""Devices that give each other what they have: which addresses they may have, and where a site's are told."""

import hashlib
import re
from typing import Final

PEERS_MAX: Final = 16
"""How many are told for one artifact at one site."""
_KEY_LETTERS: Final = 16
_URL: Final = re.compile(r"http://(?:[A-Za-z0-9][A-Za-z0-9.-]{0,126}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")


def site_key(site: str) -> str:
    """Return what stands for ``site`` in a topic: a digest, since sites are named as people like."""
    return hashlib.sha256(site.encode()).hexdigest()[:_KEY_LETTERS]


def is_peer_url(url: str) -> bool:
    """Say whether ``url`` is host and port over HTTP and nothing else: no path, no user, no other scheme.

    A device says its address itself and others fetch from there, so it must not lead them anywhere they would not go.
    """
    return _URL.fullmatch(url) is not None
