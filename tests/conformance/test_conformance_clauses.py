"""What is concluded from what was seen: clauses on transcripts that are written by hand."""

from pydantic import BaseModel

from orchestrator.conformance.clauses import CLAUSES, judge
from orchestrator.conformance.transcript import Entered, Heard, Phase, Served, Transcript
from schemas.codec import encode, encode_msgpack
from schemas.messages import HealthSample, Info, Ready, Reported
from schemas.topics import Kind, TopicTree

TREE = TopicTree()
INFO = Info(session=1, boot_id="b", agent="a", device_type="t", arch="noarch", region="r", group="g")
ARTIFACT = "ab" * 32


class Story:
    """A transcript that is told line by line, a second for each."""

    def __init__(self) -> None:
        self.transcript = Transcript("pi-7", "pi-7", "1.0.0", "1.1.0", ARTIFACT)
        self.now = 0.0

    def enter(self, phase: Phase, generation: int = 7) -> "Story":
        self.transcript.entries.append(Entered(self._tick(), phase, generation))
        return self

    def hear(
        self, kind: Kind, message: BaseModel | bytes, *, kept: bool = False, seconds: float = 1.0, device: str = "pi-7"
    ) -> "Story":
        payload = message if isinstance(message, bytes) else encode(message)
        topic = TREE.build(kind, device=device)
        address = TREE.parse(topic)
        assert address is not None
        self.transcript.entries.append(Heard(self._tick(seconds), topic, kind, address.ids, payload, kept))
        return self

    def serve(self, *, is_tampered: bool = False) -> "Story":
        self.transcript.entries.append(Served(self._tick(), ARTIFACT, is_tampered))
        return self

    def verdict(self, clause: str) -> tuple[bool | None, str]:
        (found,) = [judgement for each, judgement in judge(self.transcript) if each.id == clause]
        return found.holds, found.seen

    def _tick(self, seconds: float = 1.0) -> float:
        self.now += seconds
        return self.now


def reported(state: str = "idle", version: str = "1.0.0", *, generation: int = 7, code: str = "") -> Reported:
    error = {"code": code, "step": "verifying", "message": "m"} if code else None
    return Reported.model_validate(
        {"observed_generation": generation, "seq": 1, "state": state, "installed_version": version, "boot_id": "b",
         "error": error}
    )  # fmt: skip


def ready(step: str = "activate", *, nonce: str = "1" * 32) -> Ready:
    return Ready.model_validate({"generation": 7, "step": step, "nonce": nonce})


def sample(seq: int, boot: str = "b") -> HealthSample:
    return HealthSample(seq=seq, boot_id=boot)


def test_nothing_holds_and_little_is_broken_where_nothing_was_seen() -> None:
    verdicts = [judgement.holds for _, judgement in judge(Story().transcript)]
    assert verdicts.count(None) > len(CLAUSES) // 2
    assert verdicts.count(True) == 1, "nothing came on foreign topics"


def test_device_that_comes_back_without_an_offline_has_no_will() -> None:
    story = Story().enter(Phase.CUT).hear(Kind.AVAILABILITY, b"online").hear(Kind.INFO, INFO)
    assert story.verdict("offline-will")[0] is False


def test_device_that_was_not_cut_has_another_client_id() -> None:
    holds, seen = Story().enter(Phase.CUT).verdict("offline-will")
    assert holds is None
    assert "--client-id" in seen


def test_reported_before_info_is_named() -> None:
    story = Story().enter(Phase.RETAINED).hear(Kind.INFO, INFO, kept=True).enter(Phase.CUT)
    story.hear(Kind.REPORTED, reported()).hear(Kind.INFO, INFO)
    assert story.verdict("info-first") == (False, "after it came back, reported was there before info")


def test_kept_document_of_an_earlier_life_is_not_taken_for_the_present_one() -> None:
    story = Story().enter(Phase.SYNC).hear(Kind.REPORTED, reported(generation=8))
    story.enter(Phase.RETAINED).hear(Kind.REPORTED, reported(generation=3), kept=True)
    assert story.verdict("reported-retained")[0] is False


def test_number_of_samples_may_begin_anew_with_a_boot_and_not_within_one() -> None:
    story = Story().hear(Kind.HEALTH, sample(5)).hear(Kind.HEALTH, encode_msgpack(sample(1, "c")))
    assert story.verdict("health-seq")[0] is True
    assert story.hear(Kind.HEALTH, sample(1, "c")).verdict("health-seq") == (False, "1 after 1 in one boot")


def test_flood_is_no_pace() -> None:
    story = Story()
    for number in range(100):
        story.hear(Kind.HEALTH, sample(number), seconds=0.01)
    assert story.verdict("health-pace")[0] is False


def test_foreign_topic_counts_only_where_the_device_is_alone() -> None:
    story = Story().enter(Phase.SYNC).hear(Kind.REPORTED, reported(), device="pi-8")
    assert story.verdict("own-topics")[0] is False
    shared = Story().enter(Phase.LISTEN).hear(Kind.INFO, INFO, kept=True, device="pi-8")
    assert shared.hear(Kind.REPORTED, reported(), device="pi-8").verdict("own-topics")[0] is None


def test_lower_generation_that_is_observed_is_named() -> None:
    story = Story().enter(Phase.OLDER_ORDERED).hear(Kind.REPORTED, reported(generation=6))
    assert story.verdict("older-ignored") == (False, "it observed generation 6 after 7")


def test_tampered_artifact_is_refused_only_with_an_error_and_the_old_version() -> None:
    silent = Story().enter(Phase.TAMPERED_ORDERED).serve(is_tampered=True).hear(Kind.REPORTED, reported("failed"))
    assert silent.verdict("tampered-refused") == (False, "no error in reported")
    refused = Story().enter(Phase.TAMPERED_ORDERED).serve(is_tampered=True)
    refused.hear(Kind.REPORTED, reported("failed", code="checksum_mismatch"))
    assert refused.verdict("tampered-refused") == (True, "checksum_mismatch at verifying, still 1.0.0")


def test_question_before_the_artifact_was_fetched_is_no_verification() -> None:
    story = Story().enter(Phase.NEW_ORDERED).hear(Kind.READY, ready()).serve()
    assert story.verdict("verified-first")[0] is False


def test_switch_that_only_a_sample_shows_counts() -> None:
    story = Story().enter(Phase.OTHER_NONCE)
    story.hear(Kind.HEALTH, HealthSample(seq=1, boot_id="b", version="1.1.0"))
    assert story.verdict("grant-nonce") == (False, "a sample of 1.1.0")


def test_question_that_comes_too_soon_after_a_wait_is_named() -> None:
    story = Story().enter(Phase.TOLD_TO_WAIT).hear(Kind.READY, ready(), seconds=0.3)
    assert story.verdict("wait-obeyed") == (False, "it asked again after 0.3 s, told 1.0 s")


def test_brake_that_could_not_be_pulled_is_not_judged() -> None:
    holds, seen = Story().enter(Phase.TOLD_TO_WAIT).verdict("hold-obeyed")
    assert holds is None
    assert "--brake-broker" in seen


def test_commit_without_a_question_is_named() -> None:
    story = Story().enter(Phase.GRANTED).hear(Kind.REPORTED, reported("trial", "1.1.0"))
    story.hear(Kind.REPORTED, reported("idle", "1.1.0"))
    assert story.verdict("commit-asked") == (False, "idle with 1.1.0 without asking")


def test_device_that_never_left_the_old_version_has_not_shown_a_rollback() -> None:
    story = Story().enter(Phase.NEW_ORDERED).hear(Kind.REPORTED, reported("failed"))
    story.enter(Phase.ROLLBACK_ORDERED).hear(Kind.REPORTED, reported("idle"))
    assert story.verdict("rollback-done") == (None, "it never left the old version")
