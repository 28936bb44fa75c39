"""Numbers of 32 bits held in 16 and in 8, because a million devices have many of them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PACKED_ERROR_MAX: Final = 2.0**-12
"""By how much a packed number may be off, relative to it; whole numbers up to 4,096 are exact."""

_DROPPED_BITS: Final = 12
_BIAS: Final = 126 << 11  # so that 0 is 0, and 1 the first number above it
_ROUNDING: Final = 1 << 11
_COLDEST_CELSIUS: Final = -40.0
_STEP_CELSIUS: Final = 0.75


def packed(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Round numbers to twelve significant bits; below 1 they are 0, and 2^31 is the largest."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.int64)
    codes = ((bits + _ROUNDING) >> _DROPPED_BITS) - _BIAS
    return np.where(codes < 1 << 11, 0, np.minimum(codes, 0xFFFF)).astype(np.uint16)


def unpacked(codes: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the numbers again."""
    return _NUMBERS.take(codes)


def _numbers() -> NDArray[np.float32]:
    bits = (np.arange(1 << 16, dtype=np.uint32) + np.uint32(_BIAS)) << np.uint32(_DROPPED_BITS)
    bits[0] = 0
    return bits.view(np.float32)


_NUMBERS: Final = _numbers()
"""By their codes."""


def packed_celsius(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Round temperatures to steps of 0.75 °C, from -40 to 150; 0 stands for none."""
    steps = np.rint((values - _COLDEST_CELSIUS) / _STEP_CELSIUS)
    return (np.minimum(np.maximum(steps, 0), 253) + 1).astype(np.uint8)


def unpacked_celsius(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the temperatures again, in degrees Celsius; NaN where there is none."""
    values = (codes.astype(np.float32) - 1) * np.float32(_STEP_CELSIUS) + np.float32(_COLDEST_CELSIUS)
    values[codes == 0] = np.nan
    return values
