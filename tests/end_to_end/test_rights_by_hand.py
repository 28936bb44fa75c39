"""The emergency brake, and rights that people add or take away, asked of a mosquitto of ``broker-config``."""

from pathlib import Path

import pytest

from schemas.topics import TOPIC_ROOT
from tests.device.device_world import free_port
from tests.end_to_end.certified import CertifiedBroker, configure, serving
from tests.shell.waiting_client import NOT_AUTHORIZED, WAIT_SECONDS, connected

pytestmark = pytest.mark.mosquitto

HOLD, MARK = f"{TOPIC_ROOT}/all/hold", f"{TOPIC_ROOT}/all/sync"


def is_held_for(broker: CertifiedBroker, user: str) -> bool:
    """Say whether a new subscriber is told of the brake before what the orchestrator says next."""
    with connected(broker, user, client_id="asks") as client, connected(broker, "orchestrator") as orchestrator:
        client.subscribe([f"{TOPIC_ROOT}/all/#"])
        orchestrator.publish(MARK)
        topics = []
        while MARK not in topics:
            topics.append(client.received.get(timeout=WAIT_SECONDS)[0])
        return topics == [HOLD, MARK]


def make(folder: Path, ports: tuple[int, int], *arguments: str) -> None:
    where = ("--host", "localhost", "--device-port", str(ports[0]), "--tools-port", str(ports[1]))
    configure(folder, "--tls", *where, "--device", "pi-1", *arguments)


def test_brake_holds_after_its_operator_was_revoked_the_broker_read_it_and_was_restarted(tmp_path: Path) -> None:
    folder, ports = tmp_path / "access", (free_port(), free_port())
    make(folder, ports, "--operator", "alice")
    conf = folder / "broker" / "mosquitto.conf"
    written = conf.read_text()
    with serving(folder, conf, ports) as broker:
        with connected(broker, "alice") as alice:
            assert alice.publish(HOLD, b"{}", retain=True) != NOT_AUTHORIZED
        configure(folder, "--revoke", "alice")
        broker.read_again()
        assert [is_held_for(broker, user) for user in ("pi-1", "orchestrator")] == [True, True]

    conf.write_text(written)
    with serving(folder, conf, ports) as broker:
        assert [is_held_for(broker, user) for user in ("pi-1", "orchestrator")] == [True, True]


def test_rights_that_somebody_has_added_or_taken_away_outlive_the_next_device(tmp_path: Path) -> None:
    folder, ports = tmp_path / "access", (free_port(), free_port())
    make(folder, ports, "--operator", "alice", "--operator", "bob", "--without-brake", "bob")
    (folder / "acl.local").write_text("user bob\ntopic readwrite homeassistant/#\ntopic deny fleet/v1/audit\n")
    configure(folder, "--rewrite")
    with serving(folder, folder / "broker" / "mosquitto.conf", ports) as broker:
        for change in ((), ("--add-device", "pi-2")):
            if change:
                configure(folder, *change)
                broker.read_again()
            with connected(broker, "bob") as bob, connected(broker, "alice") as alice:
                assert bob.publish(HOLD, b"{}", retain=True) == NOT_AUTHORIZED
                assert alice.publish(HOLD, b"{}", retain=True) != NOT_AUTHORIZED
                assert bob.publish("homeassistant/x") != NOT_AUTHORIZED
                assert alice.publish("homeassistant/x") == NOT_AUTHORIZED
            with connected(broker, "orchestrator") as orchestrator, connected(broker, "bob") as bob:
                bob.subscribe([f"{TOPIC_ROOT}/audit", HOLD, f"{TOPIC_ROOT}/orchestrator/#"])
                orchestrator.publish(f"{TOPIC_ROOT}/audit")
                orchestrator.publish(f"{TOPIC_ROOT}/orchestrator/info")
                assert bob.hear(until=f"{TOPIC_ROOT}/orchestrator/info") == {HOLD, f"{TOPIC_ROOT}/orchestrator/info"}
