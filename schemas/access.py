"""Who may say and hear what: the topic tree once more, by role, as the access list that brokers read.

Written in the language of mosquitto's ``acl_file``, which the embedded broker reads too. ``broker-config/acl`` is this
with one operator and one evaluator.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.ids import check_id
from schemas.topics import RULES, TOPIC_ROOT, Kind, TopicTree


class Role(StrEnum):
    """Whoever connects to the broker; all but devices and operators have a user that is named like the role."""

    DEVICE = "device"
    ORCHESTRATOR = "orchestrator"
    EVALUATOR = "evaluator"
    OPERATOR = "operator"
    VIEWER = "viewer"
    PIECES = "pieces"


@dataclass(frozen=True, slots=True)
class Right:
    """What a role may do with messages.

    Attributes:
        why: What it is for; stands in the access list.
        may: In mosquitto's words: read, write or readwrite.
        what: Kinds of messages, of which those that carry the user's own name are the user's own alone; or, as text,
            everything below a level of the tree.
    """

    why: str
    may: str
    what: tuple[Kind | str, ...]


_OWN: Final[Mapping[Role, str]] = {Role.DEVICE: "device", Role.OPERATOR: "actor", Role.EVALUATOR: "worker"}
"""The field of topics in which a role's own name stands."""

RIGHTS: Final[Mapping[Role, tuple[Right, ...]]] = {
    Role.DEVICE: (
        Right(
            "Presence and last will; it reads its own back to correct a late will that overtook its birth.",
            "readwrite",
            (Kind.AVAILABILITY,),
        ),
        Right("What it is, on every connect.", "write", (Kind.INFO,)),
        Right("What it runs and where it is.", "write", (Kind.REPORTED,)),
        Right("It asks whether it may take the next step.", "write", (Kind.READY,)),
        Right("What happened on it.", "write", (Kind.DEVICE_EVENT,)),
        Right("Its health; the level before its name is the shard.", "write", (Kind.HEALTH,)),
        Right("What it shall run.", "read", (Kind.DESIRED,)),
        Right("The signed answer to its request.", "read", (Kind.GRANT,)),
        Right("It asks for pieces of a release, for itself alone, and hears its own.", "write", (Kind.FETCH,)),
        Right("", "read", (Kind.PIECE,)),
        Right(
            "Emergency brake and call to announce itself: the same for all, hence without a name (mosquitto warns "
            "about that).",
            "read",
            ("all",),
        ),
    ),
    Role.ORCHESTRATOR: (
        Right("It judges the fleet by everything that is said.", "read", ("",)),
        Right("Orders and signed answers to devices.", "write", (Kind.DESIRED, Kind.GRANT)),
        Right("It asks all devices to announce themselves.", "write", (Kind.SYNC,)),
        Right(
            "The trust roots that devices follow; each is signed, so a broker can withhold one but not make one.",
            "write",
            (Kind.TRUST,),
        ),
        Right("Which devices of a site give each other a release's chunks.", "write", (Kind.PEERS,)),
        Right("Plans, status, waves, gates, events and rollback orders.", "write", ("rollout",)),
        Right("Summaries of groups.", "write", (Kind.GROUP_SUMMARY,)),
        Right("Which evaluator reads which shards.", "write", (Kind.EVALUATOR_LEASE,)),
        Right("Answers to people.", "write", (Kind.REPLY,)),
        Right("To clear a command that somebody published retained by mistake.", "write", (Kind.COMMAND,)),
        Right("Its own presence, its public keys, and the audit.", "write", ("orchestrator", Kind.AUDIT)),
    ),
    Role.EVALUATOR: (
        Right("What it reads, and which part of it.", "read", ("health", Kind.EVALUATOR_LEASE)),
        Right(
            "What it hands on, and that it is there. It orders nothing and publishes in no other name.",
            "write",
            (Kind.EVALUATOR_AVAILABILITY, Kind.EVALUATOR_SAMPLES),
        ),
    ),
    Role.OPERATOR: (
        Right("Commands under the own name only: the topic is who it was.", "write", (Kind.COMMAND,)),
        Right("", "read", (Kind.REPLY,)),
        Right(
            "The emergency brake works without the orchestrator. People who must not pull it have no such line.",
            "write",
            (Kind.HOLD,),
        ),
        Right(
            "What is going on.",
            "read",
            ("rollout", "group", "health", Kind.AUDIT, "orchestrator", "evaluator", "pieces"),
        ),
        Right(
            "Devices, but not the grants: those are between the orchestrator and the device.",
            "read",
            (Kind.AVAILABILITY, Kind.INFO, Kind.DESIRED, Kind.REPORTED, Kind.READY, Kind.DEVICE_EVENT),
        ),
    ),
    Role.VIEWER: (
        Right("", "read", ("rollout", "group", "health", "orchestrator")),
        Right("", "read", (Kind.AVAILABILITY, Kind.INFO, Kind.REPORTED, Kind.DEVICE_EVENT)),
    ),
    Role.PIECES: (
        Right("Which pieces devices ask for.", "read", (Kind.FETCH,)),
        Right(
            "The pieces, which no device believes before they are proven, and that it is there.",
            "write",
            (Kind.PIECE, Kind.PIECES_AVAILABILITY),
        ),
    ),
}
"""What each role may do; what stands nowhere is denied."""

_FIELD: Final = re.compile(r"\{\w+\}")
_ABOUT: Final[Mapping[Role, str]] = {
    Role.ORCHESTRATOR: "No device can pass for it, nor it for a device.",
    Role.EVALUATOR: "One block for each evaluator, as for operators.",
    Role.OPERATOR: "One block for each person; see above.",
    Role.VIEWER: (
        "Grafana, Telegraf, Home Assistant, a wall display: reads, and writes nothing. No audit, no commands: they "
        "name people."
    ),
    Role.PIECES: "`tidegate pieces`: gives devices without HTTP what they install. It orders nothing.",
}
_PREAMBLE: Final = """\
# Who may say and hear what, in the language of mosquitto's acl_file (mosquitto.conf(5)); the embedded broker reads the
# same file. What no line allows is denied. `tidegate broker-config` writes it, with a block for each of your people.
#
# How roles work here. An acl_file knows no roles: it knows users, and `pattern` lines that hold for EVERY user with
# that user's name in the place of %u. So devices, which are many and alike, are the patterns; every other role is a
# block of its own. Nothing that commands may ever be a pattern: devices would have it too.
#
# What `tidegate broker-config FOLDER` has written is its own, and it refuses to write over what somebody has changed in
# it. Rights of your own belong into FOLDER/acl.local, which it appends; --without-brake NAME takes the brake away.
#
# To add an operator to a file that is yours: copy the block `user operator` and write the person's name in place of
# `operator` on each line. The name is the actor in the audit, so one block for each person and no shared ones. To take
# one away: remove the block and the person's password or certificate, and send the broker SIGHUP.
# Names are 1 to 64 of A-Z a-z 0-9 _ - (never a slash: `a/b` would live below `a`), and no device is named like a role.

# ---- Every device, by its authenticated name; the client id proves nothing and is not used ---------------------------

"""
_ROLES: Final = """
# ---- Roles. The two `deny` lines of each take back what the patterns would give it: it is no device ------------------
"""


def access_list(
    operators: Iterable[str] = (Role.OPERATOR,),
    evaluators: Iterable[str] = (Role.EVALUATOR,),
    *,
    without_brake: Collection[str] = (),
    root: str = TOPIC_ROOT,
) -> str:
    """Return the access list for these people and evaluators, beside all devices, the orchestrator and viewers.

    Args:
        operators: People.
        evaluators: By name.
        without_brake: Operators who may not pull the emergency brake.
        root: Leading topic levels.

    Raises:
        TopicError: A name or the root is not allowed in a topic; the caller's fault.
    """
    tree = TopicTree(root)
    users = (
        (Role.ORCHESTRATOR, (Role.ORCHESTRATOR,)),
        (Role.EVALUATOR, tuple(evaluators)),
        (Role.OPERATOR, tuple(operators)),
        (Role.VIEWER, (Role.VIEWER,)),
        (Role.PIECES, (Role.PIECES,)),
    )
    patterns = "\n".join(_lines(tree, Role.DEVICE, "%u"))
    blocks = [
        "\n".join(_block(tree, role, check_id(name), has_brake=name not in without_brake))
        for role, names in users
        for name in names
    ]
    return _PREAMBLE + patterns + "\n" + _ROLES + "\n" + "\n\n".join(blocks) + "\n"


def _block(tree: TopicTree, role: Role, name: str, *, has_brake: bool) -> Iterator[str]:
    yield f"user {name}"
    yield f"# {_ABOUT[role]}"
    yield f"topic deny {tree.root}/device/{name}/#"
    yield f"topic deny {tree.filter(Kind.HEALTH, device=name)}"
    yield from _lines(tree, role, name, has_brake=has_brake)


def _lines(tree: TopicTree, role: Role, name: str, *, has_brake: bool = True) -> Iterator[str]:
    verb = "pattern" if role is Role.DEVICE else "topic"
    for right in RIGHTS[role]:
        if right.what == (Kind.HOLD,) and not has_brake:
            continue
        if right.why:
            yield f"# {right.why}"
        for what in right.what:
            yield f"{verb} {right.may} {_filter(tree, role, name, what)}"


def _filter(tree: TopicTree, role: Role, name: str, what: Kind | str) -> str:
    if not isinstance(what, Kind):
        return "/".join(filter(None, (tree.root, what, "#")))
    own = f"{{{_OWN[role]}}}" if role in _OWN else name
    return f"{tree.root}/{_FIELD.sub('+', RULES[what].pattern.replace(own, name))}"
