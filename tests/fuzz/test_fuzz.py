"""Whatever comes from outside is read or refused as documented; here with few payloads, in ``make fuzz`` with many."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import campaign
from tests.fuzz.campaign import Outcome, feed
from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SEED = 1
EXAMPLES = 60
FOUND: dict[str, tuple[bytes, ...]] = {
    "condition": (
        b"\x030.99999999999999",
        b"\x13error_rate increasing for 3 consecutive checks of 218446737095516161m",
    ),
    "filter": (b"disk_free_bytes > " + b"9" * 5000,),
    "guardian-memory": (
        b"[" * 100_000,
        b'{"boots":{"recorded":"b","seen":[]},"outcome":{"generation":Infinity}}',
    ),
    "health-answer": (b'{"status":"ok","version":"1.1 (build 3)"}',),
    "history": (b"[" * 100_000 + b"\n", b"\x81\xa2\xc3\x28\x90"),
    "inventory-ansible": (b'{"_meta":{"hostvars":{"cam-1":{"time_zone":{"a":"UTC"}}}}}',),
    "metrics": (
        b'app_request_duration_seconds_bucket{le="0.1"} 4503599627370496',
        b'app_request_duration_seconds_bucket{le="1.7e308"} 1\napp_request_duration_seconds_bucket{le="+Inf"} 9',
        b"app_requests_total 9007199254740991\n" * 3,
    ),
    "policy": (
        b"rollout: 2026-02-30",
        b"rollout: 0000-00-00",
        b"? : b: c",
        b"? [a: ]\n: b",
        b"!!omap ",
        b"!!set ",
        b"? " * 13,
        b"rollout: # comment\n  x\n\n\nb: c\n",
    ),
    "policy-object": (b'{"health_gates":{"canary_gate":{"checks":[{"type":[],"threshold":0}]}}}',),
    "pushed": (b"requests:999999999999999|c\n" * 12,),
    "record": (b"[" * 100_000, b'{"trial":{"slot":"blue","previous":null,"generation":1e999}}'),
    "topic": (b"fleet/v1/device/pi-1/event/" + b"x" * 60_000,),
    "settings": (b"a = " + b"[" * 5000, b"a = " + b"9" * 5000),
}
"""What campaigns have found, each mended."""


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_reads_or_refuses_whatever_it_is_given(name: str) -> None:
    target = TARGETS[name]
    mutator = target.mutator()
    mutated = st.integers(0, 2**31).map(lambda number: mutator.payload(SEED, number))

    @settings(max_examples=max(10, EXAMPLES // target.cost))
    @given(st.one_of(mutated, mutated, st.binary(max_size=400)))
    def feed_it(payload: bytes) -> None:
        target.feed(payload)

    feed_it()


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_reads_some_of_its_examples(name: str) -> None:
    accepted = [TARGETS[name].feed(seed) for seed in TARGETS[name].seeds()[:12]]

    assert any(accepted)


@pytest.mark.parametrize(("name", "payload"), [(name, payload) for name in FOUND for payload in FOUND[name]])
def test_what_a_campaign_has_found_stays_mended(name: str, payload: bytes) -> None:
    TARGETS[name].feed(payload)


def planted(decode: Callable[[bytes], object], payload: bytes = b"x") -> tuple[Outcome, campaign.Finding | None]:
    outcome = Outcome("planted")
    return outcome, feed(Target(decode, (ValueError,), lambda: [b"x"]), payload, 7, outcome)


def test_an_error_that_is_not_documented_is_a_finding_with_its_place_and_payload() -> None:
    outcome, finding = planted(lambda payload: dict[bytes, int]()[payload])

    assert finding is not None
    assert (finding.what, finding.number, finding.payload) == ("KeyError", 7, "b'x'")
    assert finding.place.startswith("test_fuzz.py:")
    assert (outcome.payloads, outcome.accepted) == (1, 0)


def test_a_documented_error_is_a_refusal() -> None:
    outcome, finding = planted(int)

    assert (finding, outcome.accepted) == (None, 0)
    assert planted(int, b"5")[0].accepted == 1


def test_a_payload_that_never_ends_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_payload: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(campaign, "HANG_SECONDS", 0.05)
    before = signal.signal(signal.SIGPROF, campaign._hang)
    try:
        _, finding = planted(decode)
    finally:
        signal.signal(signal.SIGPROF, before)

    assert finding is not None
    assert finding.what == "HangError"


def test_a_payload_can_be_made_again_by_its_number() -> None:
    mutators = [TARGETS["message"].mutator() for _ in range(2)]

    payloads = [[mutator.payload(SEED, number) for number in range(500, 600)] for mutator in mutators]

    assert payloads[0] == payloads[1]
    assert len(set(payloads[0])) > 90


def test_payloads_are_damaged_and_not_only_the_examples() -> None:
    assert len({Mutator([b'{"a":1}']).payload(SEED, number) for number in range(100)}) > 80


def test_a_campaign_says_what_became_of_each_decoder() -> None:
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--count", "200", "--only", "topic", "--json"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)["targets"]
    assert (outcome["target"], outcome["payloads"], outcome["findings"]) == ("topic", 200, [])
    assert outcome["worst_ms"] > 0


def test_a_campaign_that_is_killed_leaves_no_process() -> None:
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--only", "topic", "--count", "1000000000"]
    killed = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    )
    while max((seconds for pid, seconds in members(killed.pid).items() if pid != killed.pid), default=0.0) < 1.5:
        assert killed.poll() is None, "it ended before its decoder was at work"

    killed.kill()
    killed.wait()

    while members(killed.pid):
        pass


def members(group: int) -> dict[int, float]:
    """Return the processes of a group, each with the seconds of a processor that it has had."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            values = path.read_text().rpartition(")")[2].split()
            if int(values[2]) == group:
                found[int(path.parent.name)] = int(values[11]) / os.sysconf("SC_CLK_TCK")
    return found
