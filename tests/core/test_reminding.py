"""A device that did not say how far it is, or whose words were lost, is asked before it is late."""

from orchestrator.core.members import Progress
from schemas.topics import Kind
from tests.core.core_bench import TREE, Bench, make_fleet, make_policy, payloads

LATE_SECONDS = 600.0
ASKED_SECONDS = 270.0
"""Two fifths of that, and a tick more."""


def let_go(**policy: object) -> tuple[Bench, str]:
    """Return a bench with a canary that was let go, switches, and says nothing of it."""
    bench = Bench(fleet=make_fleet(10), policy=make_policy(**policy))  # type: ignore[arg-type] # any field
    bench.start()
    name = bench.wave(0)[0]
    assert bench.ask(name).decision == "go"
    bench.run(name, "2.0.0")
    return bench, name


def orders(bench: Bench, name: str) -> list[bytes]:
    """Return every order that was written to a device since the bench was asked last."""
    sent, bench.sent = bench.sent, []
    return payloads(sent, TREE.build(Kind.DESIRED, device=name))


def test_its_order_is_written_again_in_the_same_bytes_and_then_from_time_to_time() -> None:
    bench, name = let_go()
    (ordered,) = orders(bench, name)

    bench.advance(ASKED_SECONDS - 60.0)
    assert orders(bench, name) == []
    bench.advance(60.0)
    assert orders(bench, name) == [ordered]

    bench.advance(ASKED_SECONDS - 60.0)
    assert orders(bench, name) == []
    bench.advance(60.0)
    assert orders(bench, name) == [ordered]


def test_whoever_has_answered_or_told_it_by_itself_is_left_alone() -> None:
    bench, name = let_go()
    bench.advance(ASKED_SECONDS - 60.0)
    bench.report(name, "trial")
    orders(bench, name)

    bench.advance(ASKED_SECONDS - 60.0)

    assert orders(bench, name) == []


def test_an_answer_in_time_keeps_a_device_from_failing() -> None:
    bench, name = let_go()
    bench.advance(ASKED_SECONDS)
    assert bench.member(name).progress is Progress.GRANTED
    assert bench.ask(name, "commit").decision == "go"
    bench.report(name)

    bench.advance(LATE_SECONDS)

    assert bench.member(name).progress is Progress.COMMITTED


def test_a_device_that_is_away_is_not_asked() -> None:
    bench, name = let_go()
    orders(bench, name)
    bench.set_online(name, is_online=False)

    bench.advance(LATE_SECONDS - 30.0)

    assert orders(bench, name) == []


def test_one_whose_presence_was_lost_is_asked_when_its_samples_show_that_it_is_there() -> None:
    bench, name = let_go()
    bench.boot()
    for other in bench.devices.keys() - {name}:
        bench.set_online(other)
    orders(bench, name)
    assert not bench.state.devices[name].is_online

    bench.advance(ASKED_SECONDS)

    assert len(orders(bench, name)) == 1


def test_one_that_an_ended_rollout_sent_back_is_asked_as_well() -> None:
    bench, name = let_go()
    bench.report(name, "trial")
    bench.command("rollback", rollout=bench.rollout.id, scope="fleet", reason="enough")
    assert bench.ask(name).decision == "go"
    bench.advance(60.0)
    orders(bench, name)

    bench.advance(ASKED_SECONDS)

    assert bench.member(name).progress is Progress.RETURNING
    assert len(orders(bench, name)) == 1
