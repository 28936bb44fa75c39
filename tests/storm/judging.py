"""What must hold after a storm: everybody has the new version by one install, and the journal says the same."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.core import events as e
from tests.storm.light_device import Deeds

Crowd = Mapping[str, tuple[str, Deeds]]
SHOWN_MAX = 3


def unsound(crowd: Crowd, facts: Iterable[e.AnyEvent], version: str) -> list[str]:
    """Name what is wrong with a rollout to ``version`` that has ended; empty if nothing is.

    Args:
        crowd: What each device runs, and what it has done.
        facts: The journal's.
        version: What all should run.
    """
    facts = list(facts)
    issued = Counter(fact.nonce for fact in facts if isinstance(fact, e.GrantIssued))
    found = [
        *_at_the_devices(crowd, version),
        *_in_the_journal(crowd, facts),
        *(f"nonce {nonce} was granted {count} times" for nonce, count in issued.items() if count > 1),
        *(
            f"{name} acted on a grant that is not in the journal"
            for name, (_, deeds) in crowd.items()
            if not issued.keys() >= set(deeds.nonces)
        ),
    ]
    return found[:SHOWN_MAX] + ([f"and {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else [])


def twice(crowd: Crowd) -> int:
    """Return how many effects there were beyond the first: installs, switches, commits, uses of grants, answers."""
    return sum(
        max(0, len(deeds.installs) - 1)
        + max(0, len(deeds.activations) - 1)
        + max(0, len(deeds.commits) - 1)
        + sum(count - 1 for count in deeds.used.values())
        + sum(len(numbers) - 1 for numbers in deeds.goes.values())
        for _, deeds in crowd.values()
    )


def _at_the_devices(crowd: Crowd, version: str) -> Iterator[str]:
    for name, (runs, deeds) in crowd.items():
        if runs != version:
            yield f"{name} runs {runs}"
        if len(deeds.installs) != 1:
            yield f"{name} began {len(deeds.installs)} installs"
        if [switched for _, switched in deeds.activations] != [version]:
            yield f"{name} switched {deeds.activations}"
        if len(deeds.commits) != 1:
            yield f"{name} committed {deeds.commits}"
        yield from (f"{name} used {n} grants to {step} of {order}" for (order, step), n in deeds.used.items() if n > 1)
        yield from (f"{name} heard goes {each} to one question" for each in deeds.goes.values() if len(each) > 1)


def _in_the_journal(crowd: Crowd, facts: Iterable[e.AnyEvent]) -> Iterator[str]:
    orders, commits, ends = Counter[str](), Counter[str](), list[str]()
    for fact in facts:
        match fact:
            case e.DevicesOrdered(devices=devices):
                orders.update(list(devices))
            case e.DeviceCommitted(device=device):
                commits[device] += 1
            case e.RolloutEnded():
                ends.append(fact.outcome)
            case e.DeviceFailed() | e.DeviceRetried() | e.RollbackOrdered() | e.DeviceSkipped():
                yield f"the journal says {fact.kind} {getattr(fact, 'device', '')}"
            case _:
                pass
    for name in crowd:
        if orders[name] != 1 or commits[name] != 1:
            yield f"the journal has {orders[name]} orders to {name} and {commits[name]} of its commits"
    if ends != ["completed"]:
        yield f"the rollout ended as {ends}"
