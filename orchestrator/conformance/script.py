"""What is done with a device, phase by phase; each stage needs the one before.

Theory of operation
===================

The device is brought to the old release, must refuse the new one with a changed byte, and then installs the new one as
ordered (``installing``), and is ordered back. Nothing is judged here: whatever the device does, the script goes on as
far as it makes sense, and the clauses see in the transcript how far that was.
"""

from typing import Final

from orchestrator.adapters.registry import serve_app
from orchestrator.conformance.bench import Bench
from orchestrator.conformance.installing import try_install
from orchestrator.conformance.link import PASSING_SECONDS
from orchestrator.conformance.transcript import RESTING, Heard, Phase, readable
from schemas.errors import FleetError
from schemas.messages import Desired, HealthSample, Info, Ready, Reported
from schemas.topics import Kind

_SAMPLES_MIN: Final = 3


class OrchestratorPresentError(FleetError):
    """The operator's fault: an orchestrator is on the same tree and would order and grant against the kit."""


class SilentDeviceError(FleetError, TimeoutError):
    """The world's fault: the device says nothing. The text says what to look at."""


class UnfitError(FleetError):
    """The operator's fault: a user, a release or a tree with which the test is not possible. Names the remedy."""


async def play(bench: Bench, *, host: str, port: int, url: str | None) -> None:
    """Put the device to the test; what is seen is in the bench's transcript.

    Args:
        bench: The device.
        host: Where the kit's registry listens.
        port: The same; 0 takes a free one.
        url: What the device is told, if it is not that address.

    Raises:
        OrchestratorPresentError: An orchestrator is on the tree.
        SilentDeviceError: The device says nothing.
        UnfitError: The user, a release or the tree is not fit for the test.
        BrokerUnavailableError: No connection.
        RegistryError: The kit's registry cannot listen.
    """
    async with serve_app(bench.depot.app, host, port) as local_url, bench.link.listening():
        bench.base_url = url or local_url
        await _listen(bench)
        await _call(bench)
        _take_up(bench)
        await _try_presence(bench)
        if await _try_orders(bench):
            await _try_tampering(bench)
            await try_install(bench)
            await bench.order(Phase.ROLLBACK_ORDERED, "rollback", bench.terms.old)
            await _settle(bench, Phase.ROLLBACK_ORDERED)
        bench.enter(Phase.WATCH)
        await bench.until(lambda: _sample_count(bench) >= _SAMPLES_MIN)


async def _listen(bench: Bench) -> None:
    """Hear who else is on the tree."""
    bench.enter(Phase.LISTEN)
    await bench.until(lambda: _last(bench, Kind.ORCHESTRATOR_AVAILABILITY) == b"online", bench.terms.quiet_seconds)
    _refuse_company(bench)


def _refuse_company(bench: Bench) -> None:
    """Leave a tree alone on which somebody else orders, or holds."""
    tree = bench.link.tree
    if _last(bench, Kind.ORCHESTRATOR_AVAILABILITY) == b"online":
        raise OrchestratorPresentError(
            f"an orchestrator is online on {tree.root} and would order against this test: stop it, or bring the device "
            "to a tree of its own and name that with --topic-root"
        )
    if _last(bench, Kind.HOLD):
        raise UnfitError(
            f"the brake is pulled on {tree.root}: ask who did, lift it (publish nothing, retained, on "
            f"{tree.build(Kind.HOLD)}), and type this again"
        )


def _last(bench: Bench, kind: Kind) -> bytes:
    said = [each for each in bench.transcript.entries if isinstance(each, Heard) and each.kind is kind]
    return said[-1].payload if said else b""


async def _call(bench: Bench) -> None:
    """Have the device say who it is."""
    transcript, link = bench.transcript, bench.link
    bench.enter(Phase.SYNC)
    topic = link.tree.build(Kind.SYNC)
    await link.publish(Kind.SYNC, b'{"spread_seconds": 0}')
    if not await bench.until(lambda: any(each.topic == topic for each in transcript.heard()), PASSING_SECONDS):
        raise UnfitError(f"{link.url} may not publish {topic}; name the orchestrator's user in --broker")
    _refuse_company(bench)  # what a broker keeps has come before this, however slow it is

    def has_answered() -> bool:
        return all(transcript.own(transcript.window(Phase.SYNC), kind) for kind in (Kind.INFO, Kind.REPORTED))

    await bench.until(has_answered)
    if not any(each.ids.get("device") == transcript.device for each in transcript.heard()):
        raise SilentDeviceError(
            f"{transcript.device} said nothing on {link.tree.root}: is it connected to {link.url}, with this id and "
            "this topic root? start it, and type this again"
        )


def _take_up(bench: Bench) -> None:
    """Go on from what the device knows: its architecture, and the generation it is at."""
    transcript, terms = bench.transcript, bench.terms

    def known(kind: Kind) -> list[Heard]:
        everything = [each for each in transcript.entries if isinstance(each, Heard)]
        return transcript.own(everything, kind)

    for info in readable(Info, known(Kind.INFO)):
        bench.arch = info.arch
    orders = readable(Desired, known(Kind.DESIRED))
    observed = [each.observed_generation for each in readable(Reported, known(Kind.REPORTED))]
    bench.epoch = max((each.epoch for each in orders), default=1)
    bench.generation = max((*(each.generation for each in orders), *observed), default=0)
    for release in (terms.old, terms.new):
        stored = release.artifact_for(bench.arch)
        if stored is None:
            raise UnfitError(f"{release.release} is not for {bench.arch}; build it with --arch {bench.arch}")
        transcript.artifact_sha256 = stored.artifact_sha256


async def _try_presence(bench: Bench) -> None:
    transcript = bench.transcript
    bench.enter(Phase.RETAINED)
    await bench.link.look_up(Kind.AVAILABILITY, Kind.INFO, Kind.REPORTED)
    bench.enter(Phase.CUT)
    await bench.link.cut()
    if await bench.until(lambda: transcript.own(transcript.window(Phase.CUT), Kind.AVAILABILITY), PASSING_SECONDS):
        await bench.until(lambda: transcript.own(transcript.window(Phase.CUT), Kind.REPORTED))


async def _try_orders(bench: Bench) -> bool:
    """Bring the device to the old release; then an older order, and the same again."""
    await bench.order(Phase.OLD_ORDERED, "install", bench.terms.old)
    if not await _settle(bench, Phase.OLD_ORDERED):
        return False
    await bench.order_older(Phase.OLDER_ORDERED, bench.terms.new)
    await bench.stays(Phase.OLDER_ORDERED)
    await bench.repeat(Phase.ORDER_REPEATED)
    await bench.stays(Phase.ORDER_REPEATED)
    return True


async def _try_tampering(bench: Bench) -> None:
    """Order the new release while the registry sends other bytes."""
    phase = Phase.TAMPERED_ORDERED
    bench.depot.tampered = bench.transcript.artifact_sha256
    await bench.order(phase, "install", bench.terms.new)
    await bench.until(
        lambda: any(each.error is not None for each in bench.reports(phase)) or bench.transcript.questions(phase)
    )
    await bench.stays(phase)
    bench.depot.tampered = ""


async def _settle(bench: Bench, phase: Phase) -> bool:
    """Grant what is asked until the device rests with the old version; false if it does not in time."""
    answered_count = 0

    def news() -> Ready | str | None:
        if any(each.state in {*RESTING, "failed"} for each in bench.reports(phase)):
            return "rests"
        asked = bench.transcript.questions(phase)
        return asked[-1][1] if len(asked) > answered_count else None

    while isinstance(found := await bench.until(news), Ready):
        answered_count = len(bench.transcript.questions(phase))
        await bench.answer(found)
    return bench.rests(phase, bench.terms.old.version)


def _sample_count(bench: Bench) -> int:
    transcript = bench.transcript
    return len(readable(HealthSample, transcript.own(transcript.heard(), Kind.HEALTH)))
