"""How long a rollback of a whole connected fleet takes from the operator's command until the last device has its order.

A broker with its database, an orchestrator and the devices are processes of their own on this machine. All devices
have been brought to the new version in a rollout; then ``rollback`` is commanded, and each device asks for its grant
and goes back as it would. ``decided`` is the share of the time that passes until the decision stands in the journal.
"""

import argparse
import contextlib
import statistics
import time
from typing import Any

from scene import NEW_VERSION, RELEASE, Scene, connected_fleet, told
from swarm import OLD_VERSION

from orchestrator.adapters.journal import Journal

BAR_SECONDS = 2.0
POLICY: dict[str, Any] = {
    "rollout": {
        "canary": {"percentage": 100, "immediate_minutes": 0, "short_term_minutes": 0,
                   "soak_minutes": 60, "require_human_approval_after": False},
        "global": {"max_parallel_deploys": 1_000_000, "deploy_timeout_minutes": 60},
    },
    "rolling_update": {"max_unavailable": 99, "min_available": 1, "min_ready_seconds": 0, "progress_deadline": 1},
    "health_gates": {gate: {"checks": [{"type": "crash_count", "threshold": 0, "window": "10m"}]}
                     for gate in ("canary_gate", "wave_gate")},
    "rollback_triggers": {"immediate": [{"name": "crash_loop", "condition": "device restarts > 3 in 5 minutes",
                                         "scope": "single_device", "action": "rollback_device"}]},
    "commit_on": "local_health",
}  # fmt: skip
"""One wave with everybody in it, watched for an hour: nothing is decided until a person does."""


def run_once(scene: Scene, rollout: str) -> tuple[float, float]:
    """Deploy, command the rollback; return the seconds until the last order and until the decision."""
    scene.command("start", release=RELEASE, policy=POLICY, rollout=rollout, ignore_lint=True)
    scene.swarm.all_got(f"runs {NEW_VERSION}")
    while scene.command("get", rollout=rollout)["phase"] != "soaking":
        time.sleep(0.1)
    commanded_at = time.time()  # noqa: TID251 - the clock that the journal has
    scene.command("rollback", rollout=rollout, reason="to see how long it takes")
    last_at = scene.swarm.all_got("rollback")
    decided_at = _decided_at(scene)
    scene.swarm.all_got(f"runs {OLD_VERSION}")
    while scene.command("get", rollout=rollout)["phase"] != "rolled_back":
        time.sleep(0.1)
    return last_at - commanded_at, decided_at - commanded_at


def _decided_at(scene: Scene) -> float:
    with contextlib.closing(Journal.open_reader(scene.folder / "journal.db")) as journal:
        return max(entry.at for entry in journal.read() if entry.kind == "rollback_ordered")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--broker", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with connected_fleet(options.devices, options.broker) as scene:
        runs = [run_once(scene, f"r-{number}") for number in range(options.runs)]
    name = f"rollback_{options.devices}_devices_{options.broker}_seconds"
    title = f"rollback to {options.devices} devices over the {options.broker} broker"
    decided = round(statistics.median(decided for _, decided in runs), 3)
    whole = [last for last, _ in runs]
    print(told(name, title, whole, BAR_SECONDS, as_json=options.json, decided=decided))


if __name__ == "__main__":
    main()
