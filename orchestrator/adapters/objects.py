"""Things in an object store, by name; what the library says is translated, because it may quote what is signed.

Everything here waits, and may be called from several threads at once. The library has the same for an event loop, but
then its threads call back into Python, and end a process with SIGABRT that leaves at that moment.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from orchestrator.adapters.object_store import ObjectStoreError

_ALLOW_HTTP: Final = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
_CONNECT_SECONDS: Final = 5
_REQUEST_SECONDS: Final = 120
"""For one request with its body: of an upload 5 MB at a time."""
_RETRIES_MAX: Final = 3
_RETRY_SECONDS: Final = 30
_UPLOADS_MAX: Final = 4
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_RIGHTS: Final = "check who the environment says that we are, and that we may list and read there, and write to publish"

_CREDENTIALS: Final = (
    "the environment does not say who we are; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
)
_SAID: Final = {
    "Missing AccessKeyId": _CREDENTIALS,
    "Missing SecretAccessKey": _CREDENTIALS,
    "Account must be specified": _CREDENTIALS,
    "169.254.169.254": _CREDENTIALS,  # where a cloud's machines ask, and others find nobody
    "metadata.google.internal": _CREDENTIALS,
    "BadScheme": "it speaks plain HTTP; set AWS_ALLOW_HTTP=true if that is meant",
    "error sending request": "it cannot be reached, or is silent; check AWS_ENDPOINT_URL, AWS_REGION and the network",
    "UnableToCanonicalize": "there is no such folder; make it, or correct the address",
}
"""What the library says, and what that means."""
Version = str
"""Tells one content of a name from the next."""


class Objects:
    """An object store, or a part of one.

    Args:
        shown: Its address, as it is named to people.
        store: The library's.
    """

    def __init__(self, shown: str, store: ObjectStore) -> None:
        self.shown = shown
        self._store = store

    @property
    def can_sign(self) -> bool:
        """Whether it has addresses that let whoever has them read for a while."""
        return isinstance(self._store, S3Store | GCSStore | AzureStore)

    def check(self) -> None:
        """Return if it can be read.

        Raises:
            ObjectStoreError: It cannot.
        """
        self.read("releases/no-such-release.json")

    def size_of(self, name: str) -> int | None:
        """Return how many bytes a thing has; None if there is no such thing.

        Raises:
            ObjectStoreError: The store does not say.
        """
        with self._told(name):
            try:
                return obstore.head(self._store, name)["size"]
            except FileNotFoundError:
                return None

    def read(self, name: str) -> tuple[bytes, Version | None] | None:
        """Return a thing and its version; None if there is no such thing.

        Raises:
            ObjectStoreError: The store does not give it, or is not there itself.
        """
        with self._told(name):
            try:
                found = obstore.get(self._store, name)
                return bytes(found.bytes()), found.meta["e_tag"]
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                    raise
                return None

    def read_part(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes of a thing from ``start`` to before ``end``.

        Raises:
            ObjectStoreError: They do not come, or not all of them.
        """
        with self._told(name):
            part = bytes(obstore.get_range(self._store, name, start=start, end=end))
        if len(part) != end - start:
            missing_bytes = end - start - len(part)
            raise ObjectStoreError(
                f"{self.shown}/{name}: {missing_bytes} bytes are missing at its end; publish it again"
            )
        return part

    def write(self, name: str, data: bytes) -> None:
        """Put a thing under its name; nobody sees it before it is whole.

        Raises:
            ObjectStoreError: The store does not take it.
        """
        with self._told(name):
            obstore.put(self._store, name, data, max_concurrency=_UPLOADS_MAX)

    def replace(self, name: str, data: bytes, known: Version | None) -> bool:
        """Put a thing under its name if what is there is still what is ``known``, None for nothing; say whether it was.

        A folder cannot compare; there the last one who writes wins.

        Raises:
            ObjectStoreError: The store does not take it.
        """
        mode: Any = "create" if known is None else {"e_tag": known}
        if known is not None and isinstance(self._store, LocalStore):
            mode = "overwrite"
        with self._told(name):
            try:
                obstore.put(self._store, name, data, mode=mode)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def sign(self, name: str, seconds: float) -> str:
        """Return an address from which anybody may fetch a thing for so long; it is a secret for that time.

        Raises:
            ObjectStoreError: There are no credentials to sign with.
        """
        assert isinstance(self._store, S3Store | GCSStore | AzureStore), "it can sign"
        with self._told(name):
            return obstore.sign(self._store, "GET", name, timedelta(seconds=seconds))

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Name place and remedy where something goes wrong."""
        try:
            yield
        except (BaseError, OSError, NotImplementedError) as error:
            raise ObjectStoreError(f"{self.shown}/{name}: {reason_of(error)}") from None


def connect(url: str, *, make: bool = False) -> Objects:
    """Return the object store at ``url``, as the environment leads there.

    Raises:
        ObjectStoreError: The environment does not say enough, or there is no such folder.
    """
    is_plain = any(os.environ.get(name, "").strip().lower() in {"true", "1"} for name in _ALLOW_HTTP)
    try:
        if url.startswith("file:"):
            return Objects(url, LocalStore.from_url(url, mkdir=make))
        store = from_url(
            url,
            client_options={
                "allow_http": is_plain,
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
            },
            retry_config={"max_retries": _RETRIES_MAX, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )
    except (BaseError, OSError, ValueError) as error:
        raise ObjectStoreError(f"{url}: {reason_of(error)}") from None
    return Objects(url, store)


def reason_of(error: Exception) -> str:
    """Return what is wrong and what to do, without anything that is signed or signs."""
    text = str(error)
    first = text.partition("\n")[0]
    code, status = _CODE.search(text), _STATUS.search(text)
    said = " ".join(found[1] for found in (status, code) if found)
    match error:
        case PermissionDeniedError() | UnauthenticatedError():
            return f"it refuses us ({said}); {_RIGHTS}"
        case FileNotFoundError():
            return f"there is no such bucket or container ({said}); make it, or correct the address"
        case _ if found := next((remedy for sign, remedy in _SAID.items() if sign in text), None):
            return found
        case _ if status:
            return f"it answers {said}; try again"
        case _:
            return re.sub(r"\?\S*", "", first)[:200]
