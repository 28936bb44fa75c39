"""Who is told what."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from orchestrator.notifications.notification import Notification, Trigger


@dataclass(frozen=True, slots=True)
class Interest:
    """What a destination wants to be told.

    Attributes:
        triggers: Of these; all if empty.
        rollouts: Patterns like ``camera-*``, of which one must fit the rollout's id; any if empty.
        releases: The same for the release.
    """

    triggers: frozenset[Trigger] = frozenset()
    rollouts: Sequence[str] = ()
    releases: Sequence[str] = ()


def is_wanted(interest: Interest, notification: Notification) -> bool:
    """Say whether a destination is to be told. What is about no rollout concerns everybody who wants that trigger."""
    if interest.triggers and notification.trigger not in interest.triggers:
        return False
    facts = notification.rollout
    return facts is None or (_fits(facts.rollout, interest.rollouts) and _fits(facts.release, interest.releases))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
