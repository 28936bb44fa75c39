"""Access control in the language of mosquitto's ``acl_file``, so that one file serves both brokers.

* ``user NAME``: the ``topic`` lines that follow are this user's. Those before the first are for anonymous clients.
* ``topic [read|write|readwrite|deny] FILTER``: read and write if nothing is said. A matching ``deny`` always wins.
* ``pattern [read|write|readwrite|deny] FILTER``: for every user; ``%u`` is the user name and ``%c`` the client id.

What no line allows is denied. Unlike in mosquitto, a name that holds ``/`` never fits a pattern: user ``a/b`` would
otherwise live below user ``a``.

Source:
    mosquitto 2.0, ``mosquitto.conf(5)``, acl_file, and ``src/security_default.c`` for the order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from embedded_broker.errors import ConfigurationError
from embedded_broker.state import Access, Authorizer
from embedded_broker.topics import is_filter, is_matching_levels

_GRANTS: Final[dict[str, frozenset[Access]]] = {
    "read": frozenset({Access.READ}),
    "write": frozenset({Access.WRITE}),
    "readwrite": frozenset({Access.READ, Access.WRITE}),
    "deny": frozenset(),
}
_CACHE_ENTRIES_MAX: Final = 1 << 17
_CACHE_USERS_MAX: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: what it grants under a filter; nothing granted is a denial."""

    filter: str
    grants: frozenset[Access]
    levels: list[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", self.filter.split("/"))


@dataclass(frozen=True, slots=True)
class Acl:
    """A parsed file: the rules of each user (``None`` is anonymous) and those of all."""

    rules: dict[str | None, tuple[Rule, ...]]
    patterns: tuple[Rule, ...]

    def authorizer(self) -> Authorizer:
        """Return this ACL as the core wants it, with the latest answers remembered."""
        rules_of = lru_cache(maxsize=_CACHE_USERS_MAX)(self._rules_of)

        @lru_cache(maxsize=_CACHE_ENTRIES_MAX)
        def authorize(user: str | None, client_id: str, access: Access, topic: str) -> bool:
            return _allows(rules_of(user, client_id), access, topic)

        return authorize

    def allows(self, user: str | None, client_id: str, access: Access, topic: str) -> bool:
        """Decide one access: the user's own lines first, then the patterns."""
        return _allows(self._rules_of(user, client_id), access, topic)

    def _rules_of(self, user: str | None, client_id: str) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """Return the user's own rules, and those of all with the user's names put in."""
        filled = (_fill(pattern, user, client_id) for pattern in self.patterns)
        return self.rules.get(user, ()), tuple(rule for rule in filled if rule is not None)


def parse_acl(text: str, *, source: str) -> Acl:
    """Parse an ACL file.

    Args:
        text: Its content.
        source: Its name, for errors.

    Raises:
        ConfigurationError: A line is none of the language; names file, line and remedy.
    """
    rules: dict[str | None, list[Rule]] = {}
    patterns: list[Rule] = []
    user: str | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        place = f"{source}:{number}: {line!r}"
        match word:
            case "user" if rest.strip():
                user = rest.strip()
            case "topic":
                rules.setdefault(user, []).append(_parse_rule(rest, place))
            case "pattern":
                patterns.append(_parse_rule(rest, place))
            case _:
                raise ConfigurationError(
                    f"{place}: a line is 'user NAME', 'topic [ACCESS] FILTER' or 'pattern [ACCESS] FILTER'"
                )
    return Acl({name: tuple(own) for name, own in rules.items()}, tuple(patterns))


def _parse_rule(text: str, place: str) -> Rule:
    access, _, rest = text.strip().partition(" ")
    topic_filter = rest.strip()
    if not topic_filter:
        access, topic_filter = "readwrite", access
    if access not in _GRANTS:
        raise ConfigurationError(f"{place}: access {access!r} is none of {', '.join(_GRANTS)}")
    if not is_filter(topic_filter):
        raise ConfigurationError(f"{place}: no valid topic filter; a wildcard fills a whole level, '#' is last")
    return Rule(topic_filter, _GRANTS[access])


def _fill(pattern: Rule, user: str | None, client_id: str) -> Rule | None:
    """The pattern with the names put in, ``None`` if a name it needs is missing or would reach another level."""
    filled = pattern.filter
    for mark, name in (("%u", user), ("%c", client_id)):
        if mark in pattern.filter:
            if not name or not _FORBIDDEN_IN_NAMES.isdisjoint(name):
                return None
            filled = filled.replace(mark, name)
    return Rule(filled, pattern.grants)


def _allows(rules: tuple[tuple[Rule, ...], tuple[Rule, ...]], access: Access, topic: str) -> bool:
    levels = topic.split("/")
    own, of_all = rules
    verdict = _verdict(own, access, levels)
    return bool(_verdict(of_all, access, levels) if verdict is None else verdict)


def _verdict(rules: Iterable[Rule], access: Access, levels: list[str]) -> bool | None:
    is_granted = None
    for rule in rules:
        if is_matching_levels(rule.levels, levels):
            if not rule.grants:
                return False
            is_granted = is_granted or access in rule.grants or None
    return is_granted


_FORBIDDEN_IN_NAMES: Final = frozenset("/+#")
