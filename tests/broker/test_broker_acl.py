"""The ACL language and the password file."""

import pytest

from embedded_broker.acl import parse_acl
from embedded_broker.errors import ConfigurationError
from embedded_broker.passwords import hash_password, parse_passwords
from embedded_broker.state import Access

ACL = """
# a comment
topic read hello/#

user ann
topic news/#
topic read only read/#
topic write out
topic deny news/secret
topic deny devices/ann/state

pattern write devices/%u/#
pattern read for/%c-x
pattern deny devices/+/closed
"""


@pytest.mark.parametrize(
    ("user", "access", "topic", "expected"),
    [
        (None, Access.READ, "hello/x", True),
        (None, Access.WRITE, "hello/x", False),
        ("ann", Access.READ, "hello/x", False),
        ("ann", Access.READ, "news/a", True),
        ("ann", Access.WRITE, "news/a", True),
        ("ann", Access.WRITE, "news/secret", False),
        ("ann", Access.READ, "only read/x", True),
        ("ann", Access.WRITE, "only read/x", False),
        ("ann", Access.READ, "out", False),
        ("ann", Access.WRITE, "devices/ann/x", True),
        ("ann", Access.WRITE, "devices/ann/state", False),
        ("ann", Access.WRITE, "devices/ann/closed", False),
        ("bob", Access.WRITE, "devices/bob/x", True),
        ("bob", Access.READ, "devices/bob/x", False),
        ("bob", Access.WRITE, "devices/ann/x", False),
        ("a/b", Access.WRITE, "devices/a/b/x", False),
        ("+", Access.WRITE, "devices/+/x", False),
        ("#", Access.WRITE, "devices/#", False),
        ("", Access.WRITE, "devices//x", False),
        (None, Access.WRITE, "devices/None/x", False),
        ("bob", Access.READ, "for/client-x", True),
        ("bob", Access.READ, "for/other-x", False),
        ("ann", Access.READ, "$SYS/x", False),
    ],
)
def test_access_follows_the_file(user: str | None, access: Access, topic: str, *, expected: bool) -> None:
    assert parse_acl(ACL, source="acl").authorizer()(user, "client", access, topic) is expected


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("topic sometimes a/b", "access 'sometimes' is none of read, write, readwrite, deny"),
        ("topic a/#/b", "no valid topic filter"),
        ("topic", "no valid topic filter"),
        ("user", "a line is"),
        ("allow everything", "a line is"),
    ],
)
def test_bad_line_is_named_with_its_place_and_remedy(line: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"acl:2: .*{complaint}"):
        parse_acl(f"user ann\n{line}\n", source="acl")


def test_empty_file_allows_nothing() -> None:
    assert not parse_acl("", source="acl").allows("ann", "c", Access.READ, "a")


def test_password_fits_its_own_hash_only() -> None:
    passwords = parse_passwords(f"# users\n{hash_password('ann', b'right')}\n", source="passwords")
    assert not passwords.is_remembered("ann", b"right")
    assert not passwords.fits("ann", b"wrong")
    assert not passwords.fits("bob", b"right")
    assert not passwords.is_remembered("bob", b"")
    assert passwords.fits("ann", b"right")
    assert passwords.is_remembered("ann", b"right")
    assert not passwords.is_remembered("ann", b"wrong")


@pytest.mark.parametrize("line", ["ann", "ann:secret", "ann:$6$salt$hash", ":$7$1$AA==$AA==", "ann:$7$0$AA==$AA=="])
def test_bad_password_line_is_named_and_its_hash_is_not_shown(line: str) -> None:
    with pytest.raises(ConfigurationError, match=r"passwords:1: .*--hash-password") as caught:
        parse_passwords(line, source="passwords")
    assert "secret" not in str(caught.value)


def test_user_name_with_a_colon_gets_no_hash() -> None:
    with pytest.raises(ConfigurationError, match="no user name"):
        hash_password("a:b", b"x")
