"""A webhook as a destination: a signed POST, verified TLS, and no word about what only the receiver may know."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.adapters.http_client import HttpClient, HttpError, Patience
from orchestrator.adapters.outbox import Delivery
from orchestrator.notifications.confirming import ANSWER_BYTES_MAX
from orchestrator.notifications.retrying import Later, Outcome, outcome_of
from orchestrator.notifications.signature import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from orchestrator.version import VERSION

_CONNECT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to, and how the receiver knows us.

    Attributes:
        url: May hold secrets, also in its path, and is never shown.
        secret: Signs; None for no signature.
        timeout_seconds: For the head of the answer, and then for the rest of it.
        ca_file: Who vouches for the server; None for whom the system trusts.
    """

    url: str = field(repr=False)
    secret: bytes | None = field(repr=False)
    timeout_seconds: float
    ca_file: Path | None = None

    async def deliver(self, delivery: Delivery, now: float) -> Outcome:
        """Send it once."""
        timestamp = str(int(now))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"tidegate/{VERSION}",
            TIMESTAMP_HEADER: timestamp,
            ID_HEADER: delivery.id,
        }
        if self.secret is not None:
            headers[SIGNATURE_HEADER] = sign(self.secret, timestamp, delivery.body)
        client = HttpClient(Patience(_CONNECT_SECONDS, self.timeout_seconds), self.ca_file)
        try:
            status, told, answer = await client.post(
                self.url, headers, delivery.body, answer_bytes_max=ANSWER_BYTES_MAX
            )
        except HttpError as error:
            return Later(str(error))
        return outcome_of(status, told.get("retry-after"), answer)
