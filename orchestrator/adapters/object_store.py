"""An object store as the place of releases, S3, GCS, Azure or a folder: its address, and what goes wrong with it.

The library obstore does the talking (the extra ``objects``), and is imported in ``objects.py``. Who we are to the
store, and which server it is, the environment says, as for every other program.
"""

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from schemas.errors import FleetError

if TYPE_CHECKING:
    from orchestrator.adapters.objects import Objects

SCHEMES: Final = ("s3", "gs", "az", "file")
_REMEDY: Final = "write s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"


class ObjectStoreError(FleetError):
    """An object store that gives or takes nothing: the operator's fault, or its own. Names place and remedy."""


def open_objects(url: str, option: str, *, make: bool = False) -> "Objects":
    """Return the object store at an address; nothing is asked yet.

    Args:
        url: What a person wrote.
        option: Where, for messages.
        make: Make the folder of a ``file://`` that is not there.

    Raises:
        ObjectStoreError: It is no address of one, the library is not installed, or the environment does not say enough.
    """
    try:
        parts = urlsplit(url)
        scheme, is_secret = parts.scheme, "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError as error:
        raise ObjectStoreError(f"{option} is no address; {_REMEDY}") from error
    if is_secret:
        raise ObjectStoreError(f"{option} holds more than a place; credentials and options come from the environment")
    if scheme not in SCHEMES or not (parts.path.strip("/") if scheme == "file" else parts.netloc):
        raise ObjectStoreError(f"{option} {url[:80]!r} is no object store's address; {_REMEDY}")
    try:
        from orchestrator.adapters.objects import connect  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ObjectStoreError(f"{option} needs obstore; pip install 'tidegate[orchestrator,objects]'") from error
    return connect(url.rstrip("/"), make=make)
