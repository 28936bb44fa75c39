"""Ed25519 signatures, verified by the OpenSSL that Python has loaded for TLS; elsewhere by that of ``cryptography``.

``cryptography`` brings an OpenSSL of its own, which would be a second one in the memory of a small device. Python's is
asked through seven functions, and only if it tells a signature from a forged one here. There is none to ask where it is
older than 3.0, another library, or built into the interpreter.

Source:
    RFC 8032; OpenSSL's EVP_PKEY_new(3), EVP_DigestVerifyInit(3), ERR_clear_error(3).
"""

import ctypes
import importlib
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from functools import partial
from typing import Final

Verify = Callable[[bytes, bytes, bytes], bool]
"""Says whether the holder of a raw 32-byte public key made a signature of a message, in this order; anything else that
is wrong with them is a no."""

_FUNCTIONS: Final = (
    ("EVP_PKEY_new_raw_public_key_ex", c_void_p, (c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)),
    ("EVP_PKEY_free", None, (c_void_p,)),
    ("EVP_MD_CTX_new", c_void_p, ()),
    ("EVP_MD_CTX_free", None, (c_void_p,)),
    ("EVP_DigestVerifyInit", c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    ("EVP_DigestVerify", c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    ("ERR_clear_error", None, ()),
)
# RFC 8032, section 7.1, test 2.
_KEY: Final = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
_MESSAGE: Final = b"\x72"
_SIGNATURE: Final = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def by_python() -> Verify | None:
    """Return the verification of Python's own OpenSSL; None where it cannot be asked."""
    try:
        library = ctypes.CDLL(importlib.import_module("_hashlib").__file__)
        for name, result, arguments in _FUNCTIONS:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (ImportError, AttributeError, TypeError, OSError):
        return None
    verify = partial(_ask, library)
    is_sound = verify(_KEY, _SIGNATURE, _MESSAGE) and not verify(_KEY, _SIGNATURE, b"")
    return verify if is_sound else None


def by_cryptography() -> Verify:
    """Return the verification of ``cryptography``."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - not loaded where it is not needed
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - the same

    def verify(key: bytes, signature: bytes, message: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):  # the second one if it is no key
            return False
        return True

    return verify


def _ask(library: ctypes.CDLL, key: bytes, signature: bytes, message: bytes) -> bool:
    """Verify one signature; only OpenSSL's 1 is a yes."""
    context = library.EVP_MD_CTX_new()
    public = library.EVP_PKEY_new_raw_public_key_ex(None, b"ED25519", None, key, len(key))
    try:
        if not context or not public or library.EVP_DigestVerifyInit(context, None, None, None, public) != 1:
            return False
        return bool(library.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1)
    finally:
        library.EVP_PKEY_free(public)
        library.EVP_MD_CTX_free(context)
        library.ERR_clear_error()  # a no is an error there, and TLS in this thread would take it for its own


verify: Final[Verify] = by_python() or by_cryptography()
