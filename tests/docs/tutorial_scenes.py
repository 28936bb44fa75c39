"""What each tutorial takes for granted."""

import contextlib
import getpass
import os
import re
import socket

from tests.docs.plant import DEVICES, Plant, listens, until_normal, write_quick_policy
from tests.docs.reader import Reader


def free_decades(count: int) -> list[str]:
    """Return so many beginnings of ports, to which a digit from 1 to 3 can be added."""
    found = []
    for decade in range(2100 + os.getpid() % 500, 3200):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for digit in "123":
                stack.enter_context(socket.create_server(("127.0.0.1", int(f"{decade}{digit}"))))
            found.append(str(decade))
        if len(found) == count:
            return found
    raise AssertionError("no ports are free")


def first_rollout(reader: Reader) -> None:
    decade, standby = free_decades(2)
    reader.replace |= {
        "18883": str(next(reader.ports)),
        "18080": str(next(reader.ports)),
        "2100": decade,
        "2110": standby,
        "--registry-port": "--no-metrics --registry-port",
        "--time-scale 120": "--time-scale 60",
    }

    def make_it_quick() -> None:
        write_quick_policy(reader.folder / "fleet" / "policies" / "first.yaml")
        until_normal(reader, "sensor-1.1.0")

    reader.before |= {
        "tidegate plan": make_it_quick,
        "tidegate devices": lambda: reader.until(lambda: reader.own("devices").count("● online") == 3, "all are there"),
    }
    reader.exits |= {"tidegate watch good --exit-when-waiting": (3,), "tidegate watch bad": (1,)}


def own_broker(reader: Reader) -> None:
    devices, tools = str(next(reader.ports)), str(next(reader.ports))
    reader.replace |= {
        r"\b1883\b": devices,
        r"\b1884\b": tools,
        "orchestrator --folder": "orchestrator --no-metrics --folder",
    }

    def move() -> None:
        """Let it listen on free ports of this machine, as whoever runs this test."""
        path = reader.folder / "access" / "broker" / "mosquitto.conf"
        ports = {"1883": devices, "1884": tools}
        text = re.sub(r"(?m)^listener 9001.*\nprotocol websockets\n", "", path.read_text())
        text = re.sub(r"(?m)^listener (188\d)", lambda found: f"listener {ports[found[1]]} 127.0.0.1", text)
        path.write_text(f"user {getpass.getuser()}\n{text}")

    reader.before |= {
        "mosquitto -c": move,
        "tidegate init": lambda: reader.until(lambda: listens(int(tools)), "mosquitto listens"),
        "tidegate doctor": lambda: reader.until(
            lambda: '"ok"' in reader.own("list", "--json", exits=(0, 5, 6)), "the orchestrator answers"
        ),
    }
    reader.exits["mosquitto_pub"] = (0, 135)  # 135: not authorized


def own_device(reader: Reader) -> None:
    def be_quick_and_wait() -> None:
        """Do as who reads on meanwhile: what is normal is known by then."""
        write_quick_policy(reader.folder / "fleet" / "policies" / "careful.yaml")
        until_normal(reader, "hello-1.0.0")

    reader.replace |= {"18883": str(next(reader.ports)), "orchestrator --broker": "orchestrator --no-metrics --broker",
                       "--time-scale 120 ": "--time-scale 60 "}  # fmt: skip

    reader.before |= {
        "tidegate devices": lambda: reader.until(
            lambda: reader.own("devices").count("● online") == 2, "both are there"
        ),
        "tidegate start": be_quick_and_wait,
    }
    reader.exits |= {"tidegate watch first --exit-when-waiting": (3,), "mosquitto_sub": (27,)}


def by_hand(reader: Reader) -> None:
    plant = Plant(reader, devices=DEVICES)
    plant.publish("1.2.0", 2)
    plant.start()
    plant.live()
    write_quick_policy(plant.folder / "policies" / "careful.yaml")
    until_normal(reader, "sensor-app-1.2.0")
    url = plant.broker.url_for("alice")
    (reader.folder / "password").write_text(str(url.password))
    reader.replace |= {r"\b1884\b": str(url.port)}
    reader.before["mosquitto_rr $LOGIN -W 10 -t $OPS/cmd/approve"] = lambda: plant.until_phase(
        "r-7", "awaiting_approval"
    )
    reader.exits["mosquitto_sub"] = (0, 27)


def report(reader: Reader) -> None:
    plant = Plant(reader, devices=DEVICES)
    plant.publish("1.1.0", 2)
    plant.start()
    plant.live(bad=frozenset({"1.1.0"}))
    plant.begin("sensor-app-1.1.0", "bad")
    plant.until_phase("bad", "rolled_back")
