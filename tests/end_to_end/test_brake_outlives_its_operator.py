"""Who pulled the emergency brake may be revoked: a mosquitto of ``broker-config`` holds the fleet all the same."""

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


def test_brake_holds_after_its_operator_was_revoked_the_broker_read_it_and_was_restarted(tmp_path: Path) -> None:
    folder, ports = tmp_path / "access", (free_port(), free_port())
    configure(
        folder, "--tls", "--host", "localhost", "--operator", "alice", "--device", "pi-1",
        "--device-port", str(ports[0]), "--tools-port", str(ports[1]),
    )  # fmt: skip
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
