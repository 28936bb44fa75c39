"""Clauses about orders and permissions."""

from collections.abc import Callable

from orchestrator.conformance.judgement import NOT_REACHED, Clause, Judgement, broken, kept, unknown
from orchestrator.conformance.transcript import RESTING, Phase, Transcript, read
from schemas.messages import Ready, Reported
from schemas.topics import Kind

_EARLY_SECONDS = 0.1
"""What a "wait" may seem too short by, since the message with it was on its way."""


def _taken(transcript: Transcript) -> Judgement:
    return _arrived(transcript, Phase.OLD_ORDERED, transcript.old_version)


def _rolled_back(transcript: Transcript) -> Judgement:
    if not any(transcript.switched(phase) for phase in Phase if phase is not Phase.ROLLBACK_ORDERED):
        return unknown("it never left the old version")
    return _arrived(transcript, Phase.ROLLBACK_ORDERED, transcript.old_version)


def _arrived(transcript: Transcript, phase: Phase, version: str) -> Judgement:
    entered = transcript.entered(phase)
    if entered is None:
        return NOT_REACHED
    reports = [each for each in transcript.reports(phase) if each.observed_generation == entered.generation]
    if not reports:
        return broken(f"generation {entered.generation} was never observed")
    last = reports[-1]
    why = f" ({last.error.code}: {last.error.message})" if last.error else ""
    seen = f"generation {entered.generation}: {last.state} with {last.installed_version}{why}"
    return Judgement(last.installed_version == version and last.state in RESTING, seen)


def _older_ignored(transcript: Transcript) -> Judgement:
    entered = transcript.entered(Phase.OLDER_ORDERED)
    if entered is None:
        return NOT_REACHED
    observed = [each.observed_generation for each in transcript.reports(Phase.OLDER_ORDERED)]
    if any(each < entered.generation for each in observed):
        return broken(f"it observed generation {min(observed)} after {entered.generation}")
    return _unmoved(transcript, Phase.OLDER_ORDERED)


def _repeated(transcript: Transcript) -> Judgement:
    return NOT_REACHED if not transcript.entered(Phase.ORDER_REPEATED) else _unmoved(transcript, Phase.ORDER_REPEATED)


def _unmoved(transcript: Transcript, phase: Phase) -> Judgement:
    busy = [each.state for each in transcript.reports(phase) if each.state not in RESTING]
    if busy or transcript.own(transcript.window(phase), Kind.READY):
        return broken(f"it began to work: {busy[0] if busy else 'it asked'}")
    return kept("nothing changed")


def _tampered(transcript: Transcript) -> Judgement:
    phase = Phase.TAMPERED_ORDERED
    if transcript.entered(phase) is None:
        return NOT_REACHED
    if not any(each.tampered for each in transcript.served(phase)):
        return unknown("it did not fetch the artifact; does it hold this release already? take one that it never had")
    sign = transcript.switched(phase)
    if sign:
        return broken(sign)
    if transcript.questions(phase):
        return broken("it asked to activate what has another digest than was ordered")
    errors = [each for each in transcript.reports(phase) if each.error is not None]
    if not errors or errors[-1].error is None:
        return broken("no error in reported")
    error, version = errors[-1].error, errors[-1].installed_version
    seen = f"{error.code} at {error.step}, still {version}"
    return Judgement(version == transcript.old_version, seen)


def _verified_first(transcript: Transcript) -> Judgement:
    phase = Phase.NEW_ORDERED
    entered = transcript.entered(phase)
    if entered is None:
        return NOT_REACHED
    questions, served = transcript.questions(phase), transcript.served(phase)
    if not questions:
        states = [each.state for each in transcript.reports(phase)]
        return broken(
            f"it never asked about generation {entered.generation}; last: {states[-1] if states else 'nothing'}"
        )
    heard, ready = questions[0]
    if ready.step != "activate":
        return broken(f"it asked for {ready.step} first")
    if served and served[0].at <= heard.at:
        return kept("it asked after it had fetched")
    if served:
        return broken("it asked before it had fetched the artifact")
    refused = transcript.served(Phase.TAMPERED_ORDERED) and not transcript.questions(Phase.TAMPERED_ORDERED)
    return broken("it asked and never fetched the artifact") if refused else unknown("it held the release already")


def _fresh_nonces(transcript: Transcript) -> Judgement:
    nonces: set[str] = set()
    asked = transcript.own(transcript.heard(), Kind.READY)
    for each in asked:
        ready = read(Ready, each)
        if ready is None:
            return broken("a question that cannot be read; a nonce is 32 to 128 hex digits")
        if ready.nonce in nonces:
            return broken(f"it asked twice with {ready.nonce[:16]}…")
        nonces.add(ready.nonce)
    return kept(f"{len(asked)} questions") if len(asked) > 1 else NOT_REACHED


def _grant_needed(transcript: Transcript) -> Judgement:
    ordered = transcript.switched(Phase.NEW_ORDERED)
    return broken(ordered) if ordered else _stays(Phase.NOT_ANSWERED)(transcript)


def _stays(phase: Phase) -> Callable[[Transcript], Judgement]:
    def judge(transcript: Transcript) -> Judgement:
        if transcript.entered(phase) is None:
            return NOT_REACHED
        sign = transcript.switched(phase)
        return broken(sign) if sign else kept("it went on waiting")

    return judge


def _held(transcript: Transcript) -> Judgement:
    if transcript.entered(Phase.HELD) is None:
        if transcript.entered(Phase.TOLD_TO_WAIT) is None:
            return NOT_REACHED
        return unknown("this user may not pull the brake; name one who may with --brake-broker")
    sign = transcript.switched(Phase.HELD)
    if sign:
        return broken(sign)
    again = transcript.questions(Phase.RELEASED)
    return kept("it asked again when it was lifted") if again else broken("it never asked again when it was lifted")


def _waited(transcript: Transcript) -> Judgement:
    told = transcript.entered(Phase.TOLD_TO_WAIT)
    if told is None:
        return NOT_REACHED
    sign = transcript.switched(Phase.TOLD_TO_WAIT)
    if sign:
        return broken(sign)
    questions = transcript.questions(Phase.TOLD_TO_WAIT)
    if not questions:
        return broken("it never asked again")
    seconds = questions[0][0].at - told.at
    seen = f"it asked again after {seconds:.1f} s, told {transcript.retry_seconds:.1f} s"
    return Judgement(seconds >= transcript.retry_seconds - _EARLY_SECONDS, seen)


def _commit_asked(transcript: Transcript) -> Judgement:
    if transcript.entered(Phase.GRANTED) is None:
        return NOT_REACHED
    window = transcript.window(Phase.GRANTED)
    asked = [heard for heard, ready in transcript.questions(Phase.GRANTED) if ready.step == "commit"]
    reports = [read(Reported, each) for each in transcript.own(window, Kind.REPORTED)]
    new = [each for each in reports if each and each.installed_version == transcript.new_version]
    if any(each.state in RESTING for each in new):
        return broken(f"{new[-1].state} with {transcript.new_version} without asking")
    if not new:
        states = [each.state for each in reports if each]
        return broken(f"it was granted and did not switch; it reported {states[-1] if states else 'nothing'}")
    if not asked:
        return broken("it switched and never asked to commit")
    return _arrived(transcript, Phase.COMMITTED, transcript.new_version)


ORDERS, INSTALL, GRANTS = "Orders", "Install", "Permission"
CLAUSES = (
    Clause("order-taken", "It follows an order and reports its generation as observed.", ORDERS, _taken),
    Clause("older-ignored", "An order of a lower generation changes nothing.", ORDERS, _older_ignored),
    Clause("repeated-ignored", "The same order again changes nothing.", ORDERS, _repeated),
    Clause("tampered-refused", "An artifact with another digest is refused with code and step.", INSTALL, _tampered),
    Clause("verified-first", "It asks for activate only when all is verified.", INSTALL, _verified_first),
    Clause("nonce-fresh", "Each question has a new nonce.", GRANTS, _fresh_nonces),
    Clause("grant-needed", "Without a grant it does not switch.", GRANTS, _grant_needed),
    Clause("grant-signature", "A grant that another key signed changes nothing.", GRANTS, _stays(Phase.FORGED)),
    Clause("grant-nonce", "A grant for a nonce it did not use changes nothing.", GRANTS, _stays(Phase.OTHER_NONCE)),
    Clause("grant-order", "A grant for other bytes of desired changes nothing.", GRANTS, _stays(Phase.OTHER_ORDER)),
    Clause("grant-device", "A grant for another device changes nothing.", GRANTS, _stays(Phase.OTHER_DEVICE)),
    Clause("hold-obeyed", "While all/hold is retained, it does not activate an install.", GRANTS, _held),
    Clause("wait-obeyed", "Told to wait, it asks again no sooner than it was told.", GRANTS, _waited),
    Clause("commit-asked", "After the switch it asks for commit, and is idle when it may.", "Trial", _commit_asked),
    Clause("rollback-done", "Ordered to roll back, it comes back to what it ran before.", "Rollback", _rolled_back),
)
