"""New versions that do harm, on a real agent whose broker is gone from the moment of the switch.

Whatever the new version does, the one before it serves again in time, and nothing of the new one is left.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.device.device_world import until
from tests.device.host_stage import OVERWRITE
from tests.device.hostile_versions import (
    BOMB,
    FOUR_MINUTES,
    SERVE,
    STUBBORN,
    TRIAL_SECONDS,
    WHEN_SERVING,
    HostileDevice,
    hostile,
    in_loop,
    runaways,
)

GRACE_SECONDS = 10.0
LEEWAY_SECONDS = 20.0
"""For starting processes on a busy machine."""

DIES = {"crash_loop", "unhealthy", "deadline_exceeded"}
"""Which of them comes first hangs on how fast a busy machine starts it again."""

VERSIONS = {
    "works and has lost the broker": (SERVE, {"deadline_exceeded"}),
    "takes the connections and does not answer": (
        hostile("import socket; kept = []", "listener = socket.create_server(('127.0.0.1', int(sys.argv[2])))",
                "while True: kept.append(listener.accept())"),
        {"deadline_exceeded"},
    ),
    "lets its answers drip": (
        in_loop("try:", "    while True: peer.sendall(b'H'); time.sleep(0.1)", "except OSError: pass"),
        {"deadline_exceeded"},
    ),
    "eats the memory that there is": (
        hostile("import resource; resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))", "eaten = []",
                "while True: eaten.append(bytearray(2**24))"),
        DIES,
    ),
    "forks and forks": (hostile(*BOMB, "time.sleep(600)"), {"deadline_exceeded"}),
    "starts processes that flee and do not listen": (hostile(STUBBORN, *runaways(8)), {"deadline_exceeded"}),
    "is wedged": (in_loop("if answers > 3: import signal; os.kill(os.getpid(), signal.SIGSTOP)"),
                  DIES),
    "lets a process that fled answer and dies itself": (
        hostile("if os.fork() == 0:", "    os.setsid()", "    if os.fork(): os._exit(0)",
                "    os.closerange(0, 3)", "else: time.sleep(0.1); os._exit(3)"),
        DIES,
    ),
    "says that it is the old one": (
        hostile(then=SERVE.replace("listener =", f"{WHEN_SERVING} version = '1.0.0'\nlistener =")),
        {"wrong_version"},
    ),
    "crashes after four minutes": (
        in_loop(f"if time.monotonic() - born > {FOUR_MINUTES}: os._exit(3)"),
        DIES,
    ),
    "listens on another port": (
        hostile("import socket; sys.argv[2] = '0'"), {"deadline_exceeded"},
    ),
    "listens too late": (hostile(f"time.sleep({2 * TRIAL_SECONDS})"), {"deadline_exceeded"}),
    "floods its log and closes what it can": (
        hostile("if os.fork() == 0:", "    while True: os.write(1, b'\\xff' * 65536); time.sleep(0.001)",
                "os.closerange(0, 3)"),
        {"deadline_exceeded"},
    ),
}  # fmt: skip


@pytest.fixture
def device(tmp_path: Path) -> Iterator[HostileDevice]:
    with ExitStack() as stack:
        made = HostileDevice(tmp_path, stack)
        until(lambda: made.serves("1.0.0"))
        yield made


@pytest.mark.parametrize("what", VERSIONS)
def test_device_that_lost_its_broker_leaves_a_version_that(device: HostileDevice, what: str) -> None:
    application, codes = VERSIONS[what]

    device.switch_to(application, commit_on="round_trip")
    switched_at = time.monotonic()
    device.lose_broker()

    until(lambda: device.outcome()[0] == "rolled_back", TRIAL_SECONDS + GRACE_SECONDS + LEEWAY_SECONDS)
    assert time.monotonic() - switched_at < TRIAL_SECONDS + GRACE_SECONDS + LEEWAY_SECONDS
    assert device.outcome()[1] in codes
    assert device.serves("1.0.0")
    assert device.left_of_it() == []


@pytest.mark.parametrize("what", ["is wedged", "lets a process that fled answer and dies itself"])
def test_device_reports_why_it_left_a_version_that(device: HostileDevice, what: str) -> None:
    application, codes = VERSIONS[what]

    device.switch_to(application, min_ready_seconds=1.5)

    back = device.orchestrator.until_reported("rolled_back", 1)
    assert back.error is not None
    assert back.error.code in codes
    assert device.serves("1.0.0")
    assert device.left_of_it() == []


def test_version_that_dies_for_good_after_its_commit_is_left_without_a_broker(device: HostileDevice) -> None:
    dies = in_loop(
        f"if time.monotonic() - born > {FOUR_MINUTES}: open('../state/died', 'w')",
        "if os.path.exists('../state/died'): os._exit(3)",
    )
    device.switch_to(dies)
    device.orchestrator.until_reported("idle", 1)

    device.lose_broker()

    until(lambda: device.outcome()[0] == "rolled_back")
    assert device.outcome()[1] in ("crash_loop", "unhealthy")
    assert device.serves("1.0.0")
    assert device.left_of_it() == []


@pytest.mark.parametrize("first", ["pass", OVERWRITE], ids=["", "and overwrites its variables"])
def test_version_that_kills_its_agent_is_left_by_the_guardian(device: HostileDevice, first: str) -> None:
    device.guard()

    device.switch_to(hostile(first, "import signal; os.kill(os.getppid(), signal.SIGKILL)"))
    device.lose_broker()

    agent = device.agent.process
    assert agent is not None
    until(lambda: agent.poll() == -9)
    until(lambda: device.serves("1.0.0"), TRIAL_SECONDS + GRACE_SECONDS + LEEWAY_SECONDS)
    assert device.left_of_it() == []


def test_version_that_fills_the_disk_is_left_though_nothing_can_be_written(device: HostileDevice) -> None:
    device.guard()
    assert device.agent.process is not None
    assert device.guardian is not None
    device.switch_to(SERVE, min_ready_seconds=60.0)
    device.lose_broker()
    until(lambda: device.serves("1.1.0"))

    for process in (device.agent.process, device.guardian):  # as on a full disk: no file takes another byte
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))

    until(lambda: device.serves("1.0.0"), TRIAL_SECONDS + GRACE_SECONDS + LEEWAY_SECONDS)
    assert device.left_of_it() == []


def test_nothing_is_left_of_a_version_that_flees_from_its_smoke_test(device: HostileDevice) -> None:
    flees = hostile(STUBBORN, *runaways(3), "time.sleep(0.2); os._exit(3)").replace("'serving'", "'smoke_test'")

    device.order(flees)

    failed = device.orchestrator.until_reported("failed", 1)
    assert failed.error is not None
    assert failed.error.code == "smoke_test_failed"
    assert device.serves("1.0.0")
    assert device.left_of_it() == []
