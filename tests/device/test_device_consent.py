"""What a device itself insists on before it activates an install: somebody's consent, and its own window."""

from pathlib import Path

from device_client.adapters.consent import Consent
from device_client.core.effects import PublishReady
from device_client.core.events import Connected, ConsentGiven, Disconnected
from device_client.core.machine import Phase
from device_client.core.setup import Setup
from schemas.times import parse_timestamp
from schemas.windows import MaintenanceWindow
from tests.device.device_bench import Bench

CONSENT = Setup(needs_consent=True)
NIGHT = Setup(window=MaintenanceWindow(start="02:00", end="05:00", time_zone="Europe/Oslo"))
NOON, NIGHT_TIME = "2026-11-23T11:00:00Z", "2026-11-23T02:30:00Z"


def questions(bench: Bench) -> int:
    return len(bench.all(PublishReady))


def test_device_asks_for_nothing_before_somebody_agrees() -> None:
    bench = Bench(setup=CONSENT).started()

    bench.order(1)
    bench.wait(3600)
    bench.send(Disconnected(), Connected())

    assert (bench.phase(), questions(bench), bench.error_code) == (Phase.WAITING, 0, "consent_missing")
    assert (bench.reported.state, bench.reported.error and bench.reported.error.retryable) == ("waiting", True)
    bench.send(ConsentGiven(1))
    assert (questions(bench), bench.error_code) == (1, None)
    bench.grant()
    assert bench.phase() is Phase.TRIAL


def test_consent_is_for_one_order_and_survives_a_power_cut() -> None:
    bench = Bench(setup=CONSENT).started()
    bench.send(ConsentGiven(1))
    bench.order(1)
    bench.reboot()
    assert questions(bench) == 2

    bench.order(2)

    assert (questions(bench), bench.error_code) == (2, "consent_missing")


def test_consent_to_an_older_order_changes_nothing() -> None:
    bench = Bench(setup=CONSENT).started()
    bench.order(2)

    bench.send(ConsentGiven(1))

    assert (questions(bench), bench.phase()) == (0, Phase.WAITING)


def test_way_back_needs_no_consent_and_no_window() -> None:
    bench = Bench(setup=Setup(needs_consent=True, window=NIGHT.window), clock=parse_timestamp(NIGHT_TIME)).started()
    bench.send(ConsentGiven(1))
    bench.order(1)
    bench.grant(server_time=NIGHT_TIME)
    bench.probe_for(90)
    bench.clock = parse_timestamp(NOON)

    bench.order(2, "1.0.0", action="rollback")
    bench.grant(server_time=NOON)

    assert bench.phase() is Phase.ROLLING_BACK


def test_grant_outside_of_the_window_is_not_used_and_asked_for_again_when_it_opens() -> None:
    bench = Bench(setup=NIGHT).ready()

    bench.grant(server_time=NOON)
    assert (bench.phase(), bench.version, bench.error_code) == (Phase.WAITING, "1.0.0", "outside_window")
    hours = 0
    while questions(bench) == 1:
        bench.wait(3600)
        hours += 1

    assert hours == 14, "from noon in Oslo to two in the night"
    bench.grant(server_time="2026-11-24T01:00:00Z")
    assert (bench.phase(), bench.error_code) == (Phase.TRIAL, None)


def test_device_does_not_ask_while_its_clock_says_that_the_window_is_closed() -> None:
    bench = Bench(setup=NIGHT, clock=parse_timestamp(NOON)).started()

    bench.order(1)

    assert (bench.phase(), questions(bench), bench.error_code) == (Phase.WAITING, 0, "outside_window")
    bench.clock = parse_timestamp(NIGHT_TIME)
    bench.wait(3700)
    assert questions(bench) == 1


def test_clock_that_is_wrong_is_no_permission() -> None:
    bench = Bench(setup=NIGHT, clock=parse_timestamp(NIGHT_TIME)).started()
    bench.order(1)

    bench.grant(server_time=NOON)
    bench.wait(3700)

    assert (bench.phase(), questions(bench)) == (Phase.WAITING, 1), "the grant's time counts from then on"


def test_consent_is_read_once_and_whatever_is_no_consent_is_none(tmp_path: Path) -> None:
    consent = Consent(tmp_path)
    assert consent.news() is None
    consent.give(7)
    assert [consent.news(), consent.news()] == [7, None]

    for junk in ("", "{}", "[1]", '{"generation": "7"}'):
        (tmp_path / "consent.json").write_text(junk)
        assert Consent(tmp_path).news() is None
