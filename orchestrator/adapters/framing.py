"""Samples of health out of a stretch of bytes, many at a time: what costs a microsecond each is done for all at once.

Only finding where each packet ends is done one by one, because its length says where the next one begins. Whatever is
not a plain sample comes out as ``packets`` reads it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orchestrator.adapters import packets
from orchestrator.adapters.packets import CONTINUES, PACKET_BYTES_MAX, Incoming, ProtocolError, read_varint
from schemas.ids import SHARD_COUNT

_SHARD_BYTES: Final = 3
"""Two digits and a slash."""
_LARGE: Final = 0x3FFF
_ZERO: Final = ord("0")

_Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Framed:
    """What stands in a stretch of bytes.

    Attributes:
        devices: Who sent the plain samples, in the order in which they came; as it stands in the topics.
        shards: In whose topics they stand, as numbers.
        payloads: The samples, undecoded and not empty.
        odd: Messages that are no plain samples: retained, of another form, empty or with properties.
        answers: PUBACK for all messages that want one, in their order.
        others: First byte and body of what is no message.
        used: How many bytes are used up; the rest is the beginning of a packet.
    """

    devices: list[str]
    shards: NDArray[np.uint8]
    payloads: list[bytes]
    odd: list[Incoming]
    answers: bytes
    others: list[tuple[int, bytes]]
    used: int


def frame(data: bytes, prefix: bytes, *, has_properties: bool) -> Framed:
    """Take a stretch of bytes apart.

    Args:
        data: Begins with a packet.
        prefix: Of the topics of health, up to the shard.
        has_properties: Messages carry properties, as in MQTT 5 and not in 3.1.1.

    Raises:
        ProtocolError: These are no packets of MQTT; the broker's fault.
    """
    bodies, ends = _cut(data)
    if not len(ends):
        return Framed([], np.zeros(0, dtype=np.uint8), [], [], b"", [], 0)
    raw = np.frombuffer(data, dtype=np.uint8)
    heads = raw[np.concatenate(([0], ends[:-1]))]
    is_message = heads >> 4 == packets.PUBLISH
    others = [(int(heads[each]), data[bodies[each] : ends[each]]) for each in np.flatnonzero(~is_message).tolist()]
    heads, bodies, ends_of = heads[is_message], bodies[is_message], ends[is_message]
    wants_answer = heads & 0x06 != 0
    rests = bodies + 2 + _sizes(raw, bodies, ends_of)
    payloads = rests + 2 * wants_answer + has_properties
    if (payloads > ends_of).any():
        raise ProtocolError("a message whose topic is longer than the message")
    shards, is_plain = _shards(raw, prefix, bodies + 2, rests)
    is_plain &= (heads & 0x01 == 0) & (payloads < ends_of)
    if has_properties:
        is_plain &= raw[payloads - 1] == 0
    odd = [
        packets.read_publish(head, data[body:end], has_properties=has_properties)
        for head, body, end in zip(*(each[~is_plain].tolist() for each in (heads, bodies, ends_of)), strict=True)
    ]
    text = data.decode("latin-1")
    names = bodies[is_plain] + 2 + len(prefix) + _SHARD_BYTES
    return Framed(
        [text[start:end] for start, end in zip(names.tolist(), rests[is_plain].tolist(), strict=True)],
        shards[is_plain],
        [data[start:end] for start, end in zip(payloads[is_plain].tolist(), ends_of[is_plain].tolist(), strict=True)],
        odd,
        _answers(raw, rests[wants_answer]),
        others,
        int(ends[-1]),
    )


def _cut(data: bytes) -> tuple[_Places, _Places]:
    """Return where the body of each packet begins that is complete, and where it ends."""
    bodies: list[int] = []
    ends: list[int] = []
    at, stop = 0, len(data)
    while at + 1 < stop:
        size, body = data[at + 1], at + 2
        if size >= CONTINUES:
            try:
                size, body = size - CONTINUES + (data[body] << 7), body + 1
                if size > _LARGE:
                    size, body = read_varint(data, at + 1)
            except IndexError:
                break
            if size > PACKET_BYTES_MAX:
                raise ProtocolError(f"a packet of {size} bytes, which we did not allow")
        at = body + size
        if at > stop:
            break
        bodies.append(body)
        ends.append(at)
    return np.array(bodies, dtype=np.int64), np.array(ends, dtype=np.int64)


def _sizes(raw: NDArray[np.uint8], bodies: _Places, ends: _Places) -> _Places:
    """Return how long each message's topic is."""
    if (bodies + 2 > ends).any():
        raise ProtocolError("a message without a topic")
    found: _Places = raw[bodies].astype(np.int64) << 8 | raw[bodies + 1]
    return found


def _shards(
    raw: NDArray[np.uint8], prefix: bytes, topics: _Places, ends: _Places
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the shard in each topic, and whether the topic is one of health."""
    at = topics + len(prefix)
    is_long: NDArray[np.bool_] = at + _SHARD_BYTES < ends
    at = np.where(is_long, at, len(prefix))  # anywhere within
    if len(raw) < len(prefix) + _SHARD_BYTES:
        return np.zeros(len(at), dtype=np.uint8), is_long & False
    heads = raw[(at - len(prefix))[:, None] + np.arange(len(prefix))]
    tens, ones = raw[at] - _ZERO, raw[at + 1] - _ZERO  # what is no digit comes out as more than nine
    shards = tens * np.uint8(10) + ones
    is_shard = (tens <= 9) & (ones <= 9) & (shards < SHARD_COUNT) & (raw[at + 2] == ord("/"))  # noqa: PLR2004 - digits
    return shards, is_long & is_shard & (heads == np.frombuffer(prefix, dtype=np.uint8)).all(axis=1)


def _answers(raw: NDArray[np.uint8], at: _Places) -> bytes:
    answers = np.empty((len(at), 4), dtype=np.uint8)
    answers[:, 0], answers[:, 1] = packets.PUBACK << 4, 2
    answers[:, 2], answers[:, 3] = raw[at], raw[at + 1]
    return answers.tobytes()
