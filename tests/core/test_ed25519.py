"""Both ways to verify a signature answer alike, and neither says yes in doubt."""

import ctypes
import importlib
import ssl
import subprocess
import sys
import types

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import ed25519
from schemas.ed25519 import Verify, by_cryptography, by_python

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
MESSAGE = b"DSSEv1 \x00 with a zero in it"
SIGNATURE = KEY.sign(MESSAGE)
ORDER = 2**252 + 27742317777372353535851937790883648493


IS_TO_BE_ASKED = ssl.OPENSSL_VERSION_INFO >= (3,) and hasattr(importlib.import_module("_hashlib"), "__file__")
"""Whether this Python has an OpenSSL 3 of its own, which is no part of the interpreter."""


@pytest.fixture(params=[by_cryptography, *([by_python] if IS_TO_BE_ASKED else [])])
def verify(request: pytest.FixtureRequest) -> Verify:
    found: Verify = request.param()
    return found


def test_the_openssl_of_python_is_asked_where_it_has_one() -> None:
    assert (by_python() is not None) == IS_TO_BE_ASKED


def test_a_signature_of_the_key_is_one(verify: Verify) -> None:
    assert verify(PUBLIC, SIGNATURE, MESSAGE) is True


def test_an_empty_message_has_a_signature_too(verify: Verify) -> None:
    assert verify(PUBLIC, KEY.sign(b""), b"")
    assert not verify(PUBLIC, SIGNATURE, b"")


@pytest.mark.parametrize(
    ("key", "signature", "message"),
    [
        (PUBLIC, SIGNATURE, MESSAGE + b"\0"),
        (PUBLIC, SIGNATURE, MESSAGE[:-1]),
        (PUBLIC, SIGNATURE[:-1], MESSAGE),
        (PUBLIC, SIGNATURE + b"\0", MESSAGE),
        (PUBLIC, b"", MESSAGE),
        (PUBLIC, bytes(64), MESSAGE),
        (PUBLIC, bytes(63), MESSAGE),
        (PUBLIC[:-1], SIGNATURE, MESSAGE),
        (PUBLIC + b"\0", SIGNATURE, MESSAGE),
        (b"", SIGNATURE, MESSAGE),
        (b"\xff" * 32, SIGNATURE, MESSAGE),
        (bytes(range(32)), SIGNATURE, MESSAGE),
    ],
)
def test_anything_else_is_a_no(verify: Verify, key: bytes, signature: bytes, message: bytes) -> None:
    assert verify(key, signature, message) is False


def test_every_changed_bit_is_a_no(verify: Verify) -> None:
    for place in range(len(SIGNATURE) * 8):
        changed = bytearray(SIGNATURE)
        changed[place // 8] ^= 1 << place % 8
        assert not verify(PUBLIC, bytes(changed), MESSAGE), place


def test_a_signature_cannot_be_written_in_a_second_way(verify: Verify) -> None:
    scalar = int.from_bytes(SIGNATURE[32:], "little") + ORDER

    assert not verify(PUBLIC, SIGNATURE[:32] + scalar.to_bytes(32, "little"), MESSAGE)


def test_a_no_leaves_no_error_behind_that_tls_would_take_for_its_own(verify: Verify) -> None:
    peek = ctypes.CDLL(getattr(sys.modules["_hashlib"], "__file__", None)).ERR_peek_error
    peek.restype = ctypes.c_ulong

    for key, signature in ((PUBLIC, bytes(64)), (PUBLIC, b""), (b"", SIGNATURE)):
        assert not verify(key, signature, MESSAGE)
        assert peek() == 0


def test_an_openssl_without_the_functions_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ed25519, "_FUNCTIONS", (*ed25519._FUNCTIONS, ("EVP_of_another_library", None, ())))

    assert by_python() is None


@pytest.mark.parametrize("module", [types.ModuleType("built_in"), types.SimpleNamespace(__file__="/nowhere.so")])
def test_an_openssl_within_the_interpreter_is_not_asked(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setitem(sys.modules, "_hashlib", module)

    assert by_python() is None


@pytest.mark.parametrize("answer", [True, False])
def test_an_openssl_that_does_not_tell_a_forged_signature_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
    answer: bool,  # noqa: FBT001 - a case
) -> None:
    monkeypatch.setattr(ed25519, "_ask", lambda *_: answer)

    assert by_python() is None


def test_without_pythons_openssl_that_of_cryptography_is_asked() -> None:
    program = (
        "import sys, types; sys.modules['_hashlib'] = types.ModuleType('_hashlib')\n"
        "from schemas.ed25519 import by_python, verify\n"
        f"assert by_python() is None and verify({PUBLIC!r}, {SIGNATURE!r}, {MESSAGE!r})\n"
        f"assert not verify({PUBLIC!r}, {SIGNATURE!r}, b'')\n"
        "assert 'cryptography' in sys.modules"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
