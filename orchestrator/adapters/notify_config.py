"""``notify.yaml``: who is told what. Secrets stand in the environment or in files, never here.

For example::

    destinations:
      chat:
        apprise: ${CHAT_URL}
        triggers: [on-halted, on-rolled-back]
      operations:
        webhook: https://hooks.example/tidegate
        secret_file: /run/secrets/tidegate-webhook
        rollouts: ["camera-*"]
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from orchestrator.notifications.notification import Trigger
from schemas.block import StrictBlock
from schemas.condition_text import parse_duration
from schemas.errors import FleetError
from schemas.ids import Id
from schemas.policy_block import blaming_the_author
from schemas.yaml_text import YamlTextError, parse_yaml

_TEXT_LENGTH_MAX: Final = 256 * 1024
_SECRET_BYTES_MAX: Final = 64 * 1024
_SECRET_LENGTH_MIN: Final = 16
_QUEUE: Final = "notify.db"
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class NotifyConfigError(FleetError):
    """The author's fault: a configuration that cannot be used. Names the place, never a value that may be secret."""


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    with blaming_the_author():
        return parse_duration(value)


Duration = Annotated[float, Field(gt=0), BeforeValidator(_seconds)]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], Field(max_length=64)]


class DestinationBlock(StrictBlock):
    """One destination as it is written: ``webhook`` or ``apprise``, each also as a file with the address in it."""

    webhook: str | None = None
    webhook_file: Path | None = None
    apprise: str | None = None
    apprise_file: Path | None = None
    secret: str | None = None
    """``${VARIABLE}``, of the environment."""
    secret_file: Path | None = None
    ca_file: Path | None = None
    allow_plain_http: bool = False
    triggers: Annotated[tuple[Trigger, ...], Field(max_length=32)] = ()
    rollouts: Patterns = ()
    releases: Patterns = ()
    timeout: Annotated[Duration, Field(le=120)] = 10.0
    give_up_after: Annotated[Duration, Field(le=7 * 86_400)] = 86_400.0
    approves: bool = False
    answer_within: Annotated[Duration, Field(le=7 * 86_400)] = 900.0
    ask_again: Annotated[Duration, Field(ge=1, le=3600)] = 30.0

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if sum(each is not None for each in (self.webhook, self.webhook_file, self.apprise, self.apprise_file)) != 1:
            raise ValueError("write one of webhook, webhook_file, apprise and apprise_file")
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("write secret or secret_file, not both")
        if self.secret is not None and _VARIABLE.fullmatch(self.secret) is None:
            raise ValueError("secret: write ${VARIABLE} or name a secret_file; a secret never stands here")
        is_webhook = self.webhook is not None or self.webhook_file is not None
        if not is_webhook and (self.secret or self.secret_file or self.ca_file or self.approves):
            raise ValueError("secret, ca_file and approves are for webhooks")
        if self.approves and self.secret is None and self.secret_file is None:
            raise ValueError("who approves must know that we ask: write secret or secret_file")
        if self.approves and self.triggers not in {(), (Trigger.AWAITING_APPROVAL,)}:
            raise ValueError(
                "who approves is asked on-awaiting-approval and told nothing else; make another destination"
            )
        return self


class NotifyBlock(StrictBlock):
    """The whole file.

    Attributes:
        queue: Where what is to be sent is kept, and what was seen; as read, it is never None.
    """

    destinations: Annotated[Mapping[Id, DestinationBlock], Field(min_length=1, max_length=64)]
    queue: Path | None = None


def read_config(path: Path) -> NotifyBlock:
    """Read the file.

    Raises:
        NotifyConfigError: It cannot be read, or is none; the message names line and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotifyConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    expected = "a mapping: 'destinations:', and below it for each its name"
    try:
        read = parse_yaml(text, NotifyBlock, source=str(path), expected=expected, length_max=_TEXT_LENGTH_MAX)
    except YamlTextError as error:
        # The line itself is not told: somebody may have written a secret there all the same.
        raise NotifyConfigError(str(error).partition("\n")[0]) from None
    destinations = {name: _placed(block, path.parent) for name, block in read.destinations.items()}
    return NotifyBlock(destinations=destinations, queue=path.parent / (read.queue or _QUEUE))


def _placed(block: DestinationBlock, folder: Path) -> DestinationBlock:
    """Return it with files that are named relative to the configuration's folder."""
    named = {name: getattr(block, name) for name in ("webhook_file", "apprise_file", "secret_file", "ca_file")}
    return block.model_copy(update={name: folder / place for name, place in named.items() if place is not None})


def address_of(block: DestinationBlock, name: str, environment: Mapping[str, str]) -> str:
    """Return the address with what stands in variables or in a file.

    Raises:
        NotifyConfigError: A variable or file is not there, or a webhook is no address that we would post to.
    """
    written = block.webhook or block.apprise
    place = block.webhook_file or block.apprise_file
    if written is not None:
        address = _filled(written, name, environment)
    else:
        assert place is not None, "the block was validated"
        address = _content(place, name).decode("utf-8", "replace")
    if block.webhook or block.webhook_file:
        _check_webhook(address, name, block)
    return address


def secret_of(block: DestinationBlock, name: str, environment: Mapping[str, str]) -> bytes | None:
    """Return what a destination's requests are signed with; None if they are not.

    Raises:
        NotifyConfigError: It is not there, or too short to protect anything.
    """
    if block.secret is not None:
        secret = _filled(block.secret, name, environment).encode()
    elif block.secret_file is not None:
        secret = _content(block.secret_file, name)
    else:
        return None
    if len(secret) < _SECRET_LENGTH_MIN:
        raise NotifyConfigError(
            f"{name}: the secret has less than {_SECRET_LENGTH_MIN} bytes; make one: openssl rand -hex 32"
        )
    return secret


def _filled(text: str, name: str, environment: Mapping[str, str]) -> str:
    def value(match: "re.Match[str]") -> str:
        found = environment.get(match[1])
        if not found:
            raise NotifyConfigError(f"{name}: the environment has no {match[1]}")
        return found

    return _VARIABLE.sub(value, text)


def _content(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o004:
                raise NotifyConfigError(f"{name}: everybody may read {path}; chmod o-r {path}")
            content = file.read(_SECRET_BYTES_MAX).strip()
    except OSError as error:
        raise NotifyConfigError(f"{name}: {path}: {error.strerror}") from error
    if not content:
        raise NotifyConfigError(f"{name}: {path} is empty")
    return content


def _check_webhook(address: str, name: str, block: DestinationBlock) -> None:
    """Refuse what is no address, and plain HTTP over a network unless it is asked for; no decision comes that way."""
    try:
        parts = urlsplit(address)
        host, scheme, _ = parts.hostname, parts.scheme, parts.port
    except ValueError:
        host, scheme = None, ""
    if (
        scheme not in {"http", "https"}
        or not host
        or not address.isascii()
        or not address.isprintable()
        or " " in address
    ):
        raise NotifyConfigError(f"{name}: its webhook is no address: https://host/path")
    if scheme == "https" or _is_here(host):
        return
    if block.approves:
        raise NotifyConfigError(f"{name}: who approves is asked over https only")
    if not block.allow_plain_http:
        raise NotifyConfigError(f"{name}: plain http to another machine; use https, or write allow_plain_http: true")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
