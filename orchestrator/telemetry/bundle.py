"""Samples of many devices in one message: what an evaluator hands on, checked, decoded and in columns.

Bundles of evaluators that read other shards are put side by side, so what is judged is the same as if one had read
everything.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Self

import msgspec
import numpy as np
from msgspec import Meta

from orchestrator.telemetry.columns import Floats
from orchestrator.telemetry.sample import Latency, Measure
from orchestrator.telemetry.sample_table import NUMBERS, WORDLESS, SampleTable
from schemas.errors import DecodeError
from schemas.ids import SHARD_COUNT

SAMPLES_MAX: Final = 1024
"""Samples in one bundle."""
BUNDLE_MAX_BYTES: Final = 192 * 1024
NOTES_MAX: Final = 32

_TEMPERATURE: Final = NUMBERS.index("temperature_celsius")
_SEQ: Final = NUMBERS.index("seq")
_EXACT_MAX: Final = 2.0**53

_Count = Annotated[int, Meta(ge=0, lt=2**53)]
_Index = Annotated[int, Meta(ge=0, lt=SAMPLES_MAX)]
_Text = Annotated[str, Meta(max_length=256)]


class Words(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one sample says that is no number."""

    place: _Index
    latency: Latency | None
    quality: dict[Annotated[str, Meta(max_length=128)], Measure] | None


class Note(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Messages of one topic that were refused, and why."""

    topic: _Text
    reason: _Text
    detail: _Text
    count: _Count


class Bundle(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One message of an evaluator. An empty one says that it is alive.

    Attributes:
        term: The lease under which it reads; empty while it has none.
        wanted: The shards that it would read.
        columns: Which of ``NUMBERS`` any sample says; ``numbers`` holds a row of little-endian doubles for each.
        bad: How many messages of each device were floods, or no samples.
        notes: What else is to be said of refused messages.
    """

    term: Annotated[str, Meta(max_length=64)]
    wanted: Annotated[tuple[Annotated[int, Meta(ge=0, lt=SHARD_COUNT)], ...], Meta(max_length=SHARD_COUNT)]
    devices: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=SAMPLES_MAX)] = []
    boots: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=SAMPLES_MAX)] = []
    versions: Annotated[list[Annotated[str, Meta(max_length=128)] | None], Meta(max_length=SAMPLES_MAX)] = []
    columns: tuple[Annotated[int, Meta(ge=0, lt=len(NUMBERS))], ...] = ()
    numbers: bytes = b""
    words: Annotated[tuple[Words, ...], Meta(max_length=SAMPLES_MAX)] = ()
    bad: Annotated[tuple[tuple[str, _Count], ...], Meta(max_length=SAMPLES_MAX)] = ()
    notes: Annotated[tuple[Note, ...], Meta(max_length=NOTES_MAX)] = ()

    @classmethod
    def of(
        cls,
        term: str,
        wanted: Sequence[int],
        devices: Sequence[str],
        table: SampleTable,
        *,
        bad: Sequence[tuple[str, int]],
        notes: Sequence[Note],
    ) -> Self:
        """Put samples, each with its device, into one message."""
        said = np.flatnonzero(~np.isnan(table.numbers).all(axis=1))
        words = () if table.wordy is None else enumerate(table.wordy.tolist())
        return cls(
            term,
            tuple(wanted),
            list(devices),
            list(table.boots),
            list(table.versions),
            tuple(said.tolist()),
            table.numbers[said].astype("<f8").tobytes(),
            tuple(Words(place, it.latency, it.quality) for place, it in words if it.latency or it.quality),
            tuple(bad),
            tuple(notes),
        )

    def table(self) -> SampleTable:
        """Return the samples.

        Raises:
            DecodeError: They do not fit together, or a number is none; the evaluator's fault.
        """
        count = len(self.devices)
        if len(self.boots) != count or len(self.versions) != count:
            raise DecodeError(f"{count} devices, {len(self.boots)} boots, {len(self.versions)} versions", "boots")
        if len(self.numbers) != 8 * count * len(self.columns) or len(set(self.columns)) < len(self.columns):
            raise DecodeError(
                f"{len(self.numbers)} bytes for {count} samples of {len(self.columns)} columns", "numbers"
            )
        numbers = np.full((len(NUMBERS), count), np.nan)
        numbers[list(self.columns)] = np.frombuffer(self.numbers, dtype="<f8").reshape(len(self.columns), count)
        _check(numbers)
        wordy = None
        if self.words:
            wordy = np.empty(count, dtype=object)
            wordy[:] = WORDLESS
            for each in self.words:
                if each.place >= count:
                    raise DecodeError(f"sample {each.place} of {count}", "words")
                wordy[each.place] = each
        return SampleTable(numbers, self.boots, self.versions, wordy)


def _check(numbers: Floats) -> None:
    """Refuse what no sample could have said: each number has been checked once, by whoever decoded it."""
    seq = numbers[_SEQ]
    if not ((seq >= 0) & (seq < _EXACT_MAX) & (seq == np.floor(seq))).all():
        raise DecodeError("a sequence number that is none", "seq")
    others = np.delete(numbers, [_TEMPERATURE, _SEQ], axis=0)
    if (others < 0).any() or np.isinf(numbers).any():
        raise DecodeError("a number out of bounds", "numbers")


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Bundle)


def encode_bundle(bundle: Bundle) -> bytes:
    """Return a bundle as it goes over the bus."""
    return _ENCODER.encode(bundle)


def decode_bundle(payload: bytes) -> Bundle:
    """Read a bundle; its ``table`` is checked when it is asked for.

    Raises:
        DecodeError: Too long or no bundle; the evaluator's fault.
    """
    if len(payload) > BUNDLE_MAX_BYTES:
        raise DecodeError(f"{len(payload)} bytes, at most {BUNDLE_MAX_BYTES} are allowed")
    try:
        return _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(str(error)[:200]) from error
