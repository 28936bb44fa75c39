"""The install of the new release: everything that must not make the device switch, before the one grant that may.

No answer, four forgeries, a grant under the brake, a "wait". A device that switches too early has answered one clause
and made those after it impossible; its trial is then brought to an end, so that the rollback can be tried.
"""

import hashlib
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.conformance.bench import Bench
from orchestrator.conformance.transcript import Phase, read
from schemas.messages import Ready
from schemas.topics import Kind


async def try_install(bench: Bench) -> None:
    """Order the new release, tempt the device, and grant at last."""
    await bench.order(Phase.NEW_ORDERED, "install", bench.terms.new)
    if await _asks(bench) and await _resists(bench) and await _obeys_brake(bench) and await _waits(bench):
        question = _last_question(bench)
        bench.enter(Phase.GRANTED)
        await bench.answer(question)
    await _bring_to_an_end(bench)


async def _asks(bench: Bench) -> bool:
    """Wait for the first question; false if the device does not ask, or switches without."""

    def news() -> bool:
        return bool(bench.transcript.questions(Phase.NEW_ORDERED) or bench.transcript.switched(Phase.NEW_ORDERED))

    return bool(await bench.until(news)) and not bench.transcript.switched(Phase.NEW_ORDERED)


async def _resists(bench: Bench) -> bool:
    """Give the device no answer, and then such that are not for it; false as soon as it switches."""
    forgeries: dict[Phase, dict[str, Any]] = {
        Phase.NOT_ANSWERED: {},
        Phase.FORGED: {"key": Ed25519PrivateKey.generate()},
        Phase.OTHER_NONCE: {"nonce": secrets.token_hex(16)},
        Phase.OTHER_ORDER: {"desired_sha256": hashlib.sha256(b"another order").hexdigest()},
        Phase.OTHER_DEVICE: {"device": "somebody-else"},
    }
    for phase, changes in forgeries.items():
        question = _last_question(bench)
        bench.enter(phase)
        if changes:
            await bench.answer(question, **changes)
        if not await bench.stays(phase):
            return False
    return True


async def _obeys_brake(bench: Bench) -> bool:
    """Grant under the brake, then lift it; false if the device switches, or does not ask again."""
    question = _last_question(bench)
    try:
        if not await bench.link.brake(on=True):
            return True
        bench.enter(Phase.HELD)
        await bench.answer(question)
        if not await bench.stays(Phase.HELD):
            return False
        bench.enter(Phase.RELEASED)  # before the brake is lifted: the device may ask at once
    finally:
        await bench.link.brake(on=False)
    return await bench.asked("activate", Phase.RELEASED) is not None


async def _waits(bench: Bench) -> bool:
    """Tell the device to wait; false if it switches, or does not ask again."""
    question = _last_question(bench)
    bench.enter(Phase.TOLD_TO_WAIT)
    await bench.answer(
        question, decision="wait", retry_after_seconds=bench.transcript.retry_seconds, reason="conformance"
    )
    asked_again = await bench.asked("activate", Phase.TOLD_TO_WAIT)
    return asked_again is not None and not bench.transcript.switched(Phase.TOLD_TO_WAIT)


async def _bring_to_an_end(bench: Bench) -> None:
    """Let the device commit if it has switched, however that came about."""
    last = next(phase for phase in reversed(Phase) if bench.transcript.entered(phase))
    if last is not Phase.GRANTED and not bench.transcript.switched(last):
        return
    question = await bench.asked("commit", last)
    if question is None:
        return
    bench.enter(Phase.COMMITTED)
    await bench.answer(question)
    await bench.until(lambda: bench.rests(Phase.COMMITTED, bench.terms.new.version))


def _last_question(bench: Bench) -> Ready:
    """Return what may be answered: the last question about the order at hand."""
    asked = (read(Ready, each) for each in bench.transcript.own(bench.transcript.heard(), Kind.READY))
    return [ready for ready in asked if ready is not None and ready.generation == bench.generation][-1]
