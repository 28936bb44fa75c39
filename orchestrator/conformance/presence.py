"""Clauses about who the device says it is, that it is there, and how it is."""

from itertools import pairwise

from orchestrator.conformance.judgement import NOT_REACHED, Clause, Judgement, broken, kept, unknown
from orchestrator.conformance.transcript import Heard, Phase, Transcript, read, readable
from orchestrator.telemetry.limiter import SAMPLES_PER_SECOND
from schemas.codec import HEALTH, decode
from schemas.errors import DecodeError
from schemas.ids import shard_of
from schemas.messages import HealthSample, Info, Message, Reported
from schemas.topics import RULES, Kind, Sender

_SEEN_MAX = 80


def _online(transcript: Transcript) -> Judgement:
    found = _kept_by_broker(transcript, Kind.AVAILABILITY)
    if found is None:
        return broken("nothing is retained on availability")
    return Judgement(found.payload == b"online", f"retained: {_shown(found.payload)}")


def _offline(transcript: Transcript) -> Judgement:
    cut = transcript.entered(Phase.CUT)
    if cut is None:
        return NOT_REACHED
    window = transcript.window(Phase.CUT)
    own = transcript.own(window, Kind.AVAILABILITY)
    wills = [each for each in own if each.payload == b"offline"]
    if wills:
        return kept(f"offline {wills[0].at - cut.at:.1f} s after its connection was cut")
    if own or transcript.own(window, Kind.INFO):
        return broken("its connection was cut and it came back; offline was never said for it")
    return unknown(f"no connection has the client id {transcript.client_id}; name the device's with --client-id")


def _info(transcript: Transcript) -> Judgement:
    problem = _retained_problem(transcript, Kind.INFO, Info)
    if problem:
        return broken(problem)
    window = transcript.window(Phase.CUT)
    births = transcript.own(window, Kind.INFO)
    later = [*transcript.own(window, Kind.REPORTED), *transcript.own(window, Kind.READY)]
    if not births:
        came_back = bool(later) or any(each.payload == b"online" for each in transcript.own(window, Kind.AVAILABILITY))
        return broken("it came back and did not say who it is") if came_back else kept("valid and retained")
    early = [each for each in later if each.at < births[0].at]
    if early:
        return broken(f"after it came back, {early[0].topic.rsplit('/', 1)[-1]} was there before info")
    return kept("valid, retained, and the first document after it came back")


def _reported(transcript: Transcript) -> Judgement:
    problem = _retained_problem(transcript, Kind.REPORTED, Reported)
    return broken(problem) if problem else kept("valid and retained")


def _sync(transcript: Transcript) -> Judgement:
    window = transcript.window(Phase.SYNC)
    missing = [kind.value for kind in (Kind.INFO, Kind.REPORTED) if not transcript.own(window, kind)]
    return broken(f"no {' and no '.join(missing)} came") if missing else kept("info and reported came again")


def _shard(transcript: Transcript) -> Judgement:
    samples = _samples(transcript)
    if not samples:
        return NOT_REACHED
    due, found = shard_of(transcript.device), sorted({each.ids["shard"] for each in samples})
    return Judgement(found == [due], f"shard {', '.join(found)}; crc32 of its id modulo 64 is {due}")


def _valid_samples(transcript: Transcript) -> Judgement:
    samples = _samples(transcript)
    for each in samples:
        try:
            decode(HealthSample, each.payload, HEALTH)
        except DecodeError as error:
            return broken(str(error))
    return kept(f"{len(samples)} samples") if samples else NOT_REACHED


def _sample_numbers(transcript: Transcript) -> Judgement:
    samples = readable(HealthSample, _samples(transcript))
    if len(samples) < 2:  # noqa: PLR2004 - a pair
        return NOT_REACHED
    for boot in dict.fromkeys(each.boot_id for each in samples):
        for first, second in pairwise(each.seq for each in samples if each.boot_id == boot):
            if second <= first:
                return broken(f"{second} after {first} in one boot")
    return kept(f"{samples[0].seq} to {samples[-1].seq}")


def _sample_pace(transcript: Transcript) -> Judgement:
    samples = _samples(transcript)
    if len(samples) < 2:  # noqa: PLR2004 - a pair
        return broken(f"{len(samples)} samples came in all")
    span_seconds = samples[-1].at - samples[0].at
    gaps = sorted(second.at - first.at for first, second in pairwise(samples))
    seen = f"{len(samples)} samples in {span_seconds:.1f} s, mostly {gaps[len(gaps) // 2]:.2g} s apart"
    return Judgement(len(samples) - 1 <= SAMPLES_PER_SECOND * max(span_seconds, 1.0), seen)


def _own_topics(transcript: Transcript) -> Judgement:
    strangers = [each for each in transcript.heard() if _is_strange(transcript, each)]
    before = [*transcript.window(Phase.LISTEN), *transcript.kept()]
    others = {each.ids.get("device") for each in before} - {transcript.device, None}
    if others:
        return unknown(f"other devices are on this tree too, for example {min(filter(None, others))}")
    if strangers:
        return broken(f"{strangers[0].topic[:_SEEN_MAX]}, and {len(strangers) - 1} more")
    return kept("nothing came on any other")


def _is_strange(transcript: Transcript, heard: Heard) -> bool:
    if heard.kind is None:
        return True
    return RULES[heard.kind].sender is Sender.DEVICE and heard.ids.get("device") != transcript.device


def _samples(transcript: Transcript) -> list[Heard]:
    return transcript.own(transcript.heard(), Kind.HEALTH)


def _kept_by_broker(transcript: Transcript, kind: Kind) -> Heard | None:
    found = [each for each in transcript.own(transcript.window(Phase.RETAINED), kind) if each.kept and each.payload]
    return found[-1] if found else None


def _retained_problem(transcript: Transcript, kind: Kind, model: type[Message]) -> str:
    said = transcript.own(transcript.heard(), kind)
    for each in said:
        try:
            decode(model, each.payload)
        except DecodeError as error:
            return str(error)
    found = _kept_by_broker(transcript, kind)
    if found is None:
        return "the broker keeps none: it was not published retained" if said else "it was never said"
    if said and found.payload not in {each.payload for each in said}:
        return "the broker keeps another one than was said: it was not published retained"
    return "" if read(model, found) else "what the broker keeps cannot be read"


def _shown(payload: bytes) -> str:
    return payload[:_SEEN_MAX].decode("utf-8", "replace") or "nothing"


PRESENCE, HEALTH_SECTION, TOPICS = "Presence", "Health", "Topics"
CLAUSES = (
    Clause("online-retained", "While connected, availability says online, retained.", PRESENCE, _online),
    Clause("offline-will", "When its connection is lost, the broker says offline for it.", PRESENCE, _offline),
    Clause("info-first", "Info is valid, retained, and said on each connect before reported.", PRESENCE, _info),
    Clause("reported-retained", "Reported is valid and retained.", PRESENCE, _reported),
    Clause("sync-answered", "It answers all/sync with info and reported.", PRESENCE, _sync),
    Clause("health-shard", "Its samples are in the topic of its own shard.", HEALTH_SECTION, _shard),
    Clause("health-valid", "Every sample is valid, in JSON or msgpack.", HEALTH_SECTION, _valid_samples),
    Clause("health-seq", "The number of a sample grows within a boot.", HEALTH_SECTION, _sample_numbers),
    Clause("health-pace", "Samples come by themselves, at most 10 in a second.", HEALTH_SECTION, _sample_pace),
    Clause("own-topics", "It publishes on no topic but its own.", TOPICS, _own_topics),
)
