"""The trust root: which keys speak for releases, for grants and for the next root, and what is not to be installed.

A device begins with one root that it was given and follows the next ones step by step. Root N+1 is accepted if the
threshold of N's root keys signed it and the threshold of its own root keys did; versions grow by one and never fall.
So whoever holds a release key or the command key can never make himself trusted, and whoever loses one is replaced.

Revoked are releases by name and not manifests by digest: a digest is that of an envelope, and an envelope can be
written anew (another order of its signatures, one of three left out) without touching what was signed.

Source:
    The Update Framework 1.0, section 5.3 "Update the root role".
"""

from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.codec import TRUST, decode
from schemas.dsse import read_envelope, unseal
from schemas.errors import DecodeError, SignatureError, TrustError
from schemas.ids import Name
from schemas.messages import TrustDocument
from schemas.times import Timestamp, parse_timestamp

ROOT_TYPE: Final = "application/vnd.tidegate.root+json"
KEYS_MAX: Final = 8
"""Keys of one role: an envelope has room for the signatures of two."""

PublicKey = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""A raw Ed25519 public key in lower-case hex."""


class _Signed(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Role(_Signed):
    """Some keys, and how many of them must sign."""

    keys: Annotated[tuple[PublicKey, ...], Field(strict=False, min_length=1, max_length=KEYS_MAX)]
    threshold: Annotated[int, Field(ge=1, le=KEYS_MAX)] = 1

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if len(set(self.keys)) != len(self.keys):
            raise ValueError("a key stands twice in one role")
        if self.threshold > len(self.keys):
            raise ValueError(f"{self.threshold} of {len(self.keys)} keys can never sign")
        return self

    @property
    def raw_keys(self) -> tuple[bytes, ...]:
        """The keys as bytes."""
        return tuple(map(bytes.fromhex, self.keys))


class Root(_Signed):
    """What is trusted.

    Attributes:
        version: Grows by one with each root.
        root: Who may sign the next one.
        release: Whose releases are installed.
        command: Whose grants are obeyed; one of them signs.
        revoked: Names of releases that are not installed any more.
        release_counter_min: Releases with a lower counter are revoked too, so that the list can stay short.
        expires: After that nothing new is installed under it; what serves is not touched.
    """

    version: Annotated[int, Field(ge=1, lt=2**53)]
    root: Role
    release: Role
    command: Role
    revoked: Annotated[tuple[Name, ...], Field(strict=False, max_length=256)] = ()
    release_counter_min: Annotated[int, Field(ge=0, lt=2**53)] = 0
    expires: Timestamp | None = None

    @model_validator(mode="after")
    def _keeps_roles_apart(self) -> Self:
        keys = [*self.root.keys, *self.release.keys, *self.command.keys]
        if len(set(keys)) != len(keys):
            raise ValueError("a key stands in two roles; whoever takes it over would have both")
        if self.command.threshold != 1:
            raise ValueError("a grant has one signature, so the threshold of command is 1")
        if self.expires is not None:
            parse_timestamp(self.expires)
        return self

    def revokes(self, release: str, release_counter: int) -> bool:
        """Say whether that release is not to be installed any more."""
        return release in self.revoked or release_counter < self.release_counter_min

    def has_expired(self, now: float) -> bool:
        """Say whether nothing new is installed under it at ``now``, seconds since the epoch on a trusted clock."""
        return self.expires is not None and now > parse_timestamp(self.expires)


def open_first(envelope: bytes) -> Root:
    """Return the root that somebody chose to begin with; it must be signed by its own keys.

    Raises:
        TrustError: It is no root, or not signed by the threshold of its own root keys.
    """
    try:
        # The one place where something is parsed before it is verified: its bytes are pinned, its keys stand in it.
        payload = read_envelope(ROOT_TYPE, envelope, TRUST).payload
    except SignatureError as error:
        raise TrustError(f"no root: {error}", "malformed") from error
    root = _parse(payload)
    _check_own(root, envelope)
    return root


def open_next(trusted: Root, envelope: bytes) -> Root:
    """Return the root that follows ``trusted``.

    Raises:
        TrustError: Not signed by the old root's threshold and by its own, no root, or not the next version.
    """
    try:
        payload = unseal(ROOT_TYPE, envelope, trusted.root.raw_keys, TRUST, threshold=trusted.root.threshold)
    except SignatureError as error:
        raise TrustError(f"root {trusted.version} did not sign it: {error}", "not_signed_by_old") from error
    root = _parse(payload)
    if root.version != trusted.version + 1:
        message = f"it is root {root.version}, and after {trusted.version} comes {trusted.version + 1}"
        raise TrustError(message, "wrong_version")
    _check_own(root, envelope)
    return root


def follow(trusted: Root, document: TrustDocument) -> tuple[Root, tuple[str, ...]]:
    """Return the newest root that ``document`` leads to, and the envelopes that were new on the way.

    Raises:
        TrustError: It begins too late, or one of its new roots does not follow; then none of them counts.
    """
    known = trusted.version + 1 - document.first
    if known < 0:
        raise TrustError(f"it begins with root {document.first}, and ours is {trusted.version}", "gap")
    new = document.roots[known:]
    for envelope in new:
        trusted = open_next(trusted, envelope.encode())
    return trusted, new


def _parse(payload: bytes) -> Root:
    try:
        return decode(Root, payload, TRUST)
    except DecodeError as error:
        raise TrustError(f"no root: {error}", "malformed") from error


def _check_own(root: Root, envelope: bytes) -> None:
    try:
        unseal(ROOT_TYPE, envelope, root.root.raw_keys, TRUST, threshold=root.root.threshold)
    except SignatureError as error:
        raise TrustError(f"its own root keys did not sign it: {error}", "not_signed_by_own") from error
