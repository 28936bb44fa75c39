# ruff: noqa: D101, D102 - the steps and their names are those of docs/writing-a-device.md
"""A whole device in one file, written from docs/writing-a-device.md: Python's standard library and an MQTT client.

Its application is a counter. It has no slots, so an artifact is fetched and verified, and not kept.
"""

import argparse
import binascii
import contextlib
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from verify import fetch, open_grant, target

GATE_SECONDS = 7 * 86400.0  # how long a proven trial waits for its gate


class Device:
    def __init__(self, options: argparse.Namespace) -> None:
        self.id, self.key, self.path = options.device, bytes.fromhex(options.command_key), Path(options.state)
        self.root, self.sample_seconds = options.topic_root, float(options.sample_seconds)
        self.topic = f"{self.root}/device/{self.id}/"
        self.boot_id, self.number = os.urandom(8).hex(), binascii.crc32(self.id.encode())
        self.question: tuple[str, str, float] | None = None  # step, nonce, when
        self.trial_until: float | None = None
        self.announce_at: float | None = None
        self.trial_since = self.ask_at = self.sample_at = 0.0
        self.order: dict[str, Any] = {}
        self.hold, self.count, self.samples = False, 0, 0
        self.state: dict[str, Any] = {
            "version": "0.0.0", "previous": None, "held": "", "generation": 0, "desired": {}, "epoch": 0, "seq": 0,
            "phase": "idle", "error": None, "reports": 0, "session": 0,
        }  # fmt: skip
        self.state.update(json.loads(self.path.read_text()) if self.path.exists() else {})
        self.state["session"] += 1
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.id)
        self.client.will_set(self.topic + "availability", "offline", 1, retain=True)
        self.client.on_connect, self.client.on_message = self.on_connect, self.on_message
        if self.state["phase"] == "trial":
            self.go_back("interrupted", "it was restarted during its trial")

    def save(self) -> None:
        with self.path.with_suffix(".new").open("w") as file:
            json.dump(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        self.path.with_suffix(".new").replace(self.path)

    def say(self, name: str, *, retain: bool = True, **document: object) -> None:
        if self.client.is_connected():  # what is kept for later is not true any more when it is sent
            self.client.publish(self.topic + name, json.dumps(document), 1, retain)

    def report(self, phase: str, code: str = "", step: str = "", message: str = "") -> None:
        state, error = self.state, {"code": code, "step": step, "message": message} if code else None
        state.update(phase=phase, error=error, reports=state["reports"] + 1)
        self.save()
        self.say("reported", observed_generation=state["generation"], seq=state["reports"], state=phase, error=error,
                 installed_version=state["version"], previous_version=state["previous"],
                 boot_id=self.boot_id)  # fmt: skip

    def introduce(self) -> None:
        self.say("info", session=self.state["session"], boot_id=self.boot_id, agent="minimal/1", arch="noarch",
                 device_type="minimal", region="lab", group="minimal", version=self.state["version"])  # fmt: skip
        self.report(self.state["phase"], **(self.state["error"] or {}))

    def on_connect(self, *_: object) -> None:
        self.question, self.hold = None, False  # the brake is retained: it is heard again, unless it was lifted
        self.client.publish(self.topic + "availability", "online", 1, retain=True)
        self.introduce()
        everyone = [(f"{self.root}/all/hold", 1), (f"{self.root}/all/sync", 1)]
        self.client.subscribe([*((self.topic + name, 1) for name in ("desired", "grant", "availability")), *everyone])

    def on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        kind, payload, now = message.topic.rsplit("/", 1)[1], bytes(message.payload), time.monotonic()
        try:
            if kind == "desired":
                if payload:  # an order that disappears changes nothing
                    self.order = {**json.loads(payload), "digest": hashlib.sha256(payload).hexdigest()}
            elif kind == "grant":
                self.on_grant(payload, now)
            elif kind == "availability" and payload != b"online":  # a will that came late
                self.client.publish(self.topic + "availability", "online", 1, retain=True)
            elif kind == "hold":
                self.hold, self.question, self.ask_at = payload != b"", None, now
            elif kind == "sync":
                self.announce_at = now + json.loads(payload).get("spread_seconds", 10) * self.number / 2**32
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"{kind} dropped: {error}", file=sys.stderr)

    def on_grant(self, payload: bytes, now: float) -> None:
        state, question, desired = self.state, self.question, self.state["desired"]
        if question is None:
            raise ValueError("nothing was asked")
        asked = (self.id, state["generation"], question[0], question[1], desired["digest"])
        grant = open_grant(payload, self.key, asked, (state["epoch"], state["seq"]), now - question[2])
        self.question = None
        state.update(epoch=grant["epoch"], seq=grant["seq"])
        self.save()  # before anything follows from it
        if grant["decision"] != "go":
            self.ask_at = now + max(1.0, grant.get("retry_after_seconds") or 30.0)
        elif grant["step"] == "commit":
            self.trial_until = None
            self.report("idle")
        else:
            self.switch(desired, now)

    def accept(self, desired: dict[str, Any], now: float) -> None:
        state, known = self.state, self.state["desired"]
        if desired["generation"] < state["generation"] or desired["epoch"] < max(state["epoch"], known.get("epoch", 0)):
            return None
        if desired["generation"] == state["generation"] and state["phase"] != "downloading":  # was it cut off there?
            if target(desired) == target(known):
                state["desired"] = desired
            return self.introduce()
        state.update(generation=desired["generation"], desired=desired)
        self.question, self.ask_at = None, now
        if desired["action"] == "hold" or desired["version"] == state["version"]:
            return self.report("idle")
        if desired.get("not_before") or desired.get("not_after"):
            return self.report("failed", "invalid_order", "order", "this device knows no times of day")
        if desired["action"] == "install":
            return self.install(desired)
        if desired["version"] != state["previous"]:
            return self.report("failed", "no_safe_rollback", "order", f"{desired['version']} is not here any more")
        return self.report("ready")

    def install(self, desired: dict[str, Any]) -> None:
        self.report("downloading")
        try:
            if self.state["held"] != desired["artifact"]["sha256"]:
                fetch(desired["manifest"], desired["manifest"]["urls"])
                fetch(desired["artifact"], desired["artifact"]["sources"])
        except ValueError as error:
            return self.report("failed", "checksum_mismatch", "verifying", str(error))
        except OSError as error:
            return self.report("failed", "download_failed", "downloading", str(error))
        self.state.update(held=desired["artifact"]["sha256"], previous=None)  # standby holds the new version now
        return self.report("ready")

    def switch(self, desired: dict[str, Any], now: float) -> None:
        self.state.update(version=desired["version"], previous=self.state["version"])
        self.trial_until, self.trial_since, self.ask_at = None, now, now
        if desired["action"] == "rollback":
            return self.report("rolled_back")
        self.trial_until = now + desired["progress_deadline_seconds"]
        return self.report("trial")

    def go_back(self, code: str, message: str) -> None:
        self.state.update(version=self.state["previous"], previous=None)
        self.trial_until = self.question = None
        self.report("rolled_back", code, "trial", message)

    def tick(self, now: float) -> None:
        state, desired = self.state, self.state["desired"]
        if self.announce_at is not None and now >= self.announce_at:
            self.announce_at = None
            self.introduce()
        if now >= self.sample_at:
            self.measure(now)
        newer = bool(self.order) and self.order["generation"] > state["generation"]
        if self.order and not (newer and self.trial_until is not None and self.order["action"] != "rollback"):
            order, self.order = self.order, {}
            self.accept(order, now)
        elif self.trial_until is not None and now > self.trial_until:
            self.go_back("deadline_exceeded", "no permission to commit by the deadline")
        elif self.is_proven(now) and desired["commit_on"] == "gate":
            self.trial_until = self.trial_since + GATE_SECONDS
        elif self.is_proven(now) and desired["commit_on"] == "local_health":
            self.trial_until = None
            self.report("idle")
        braked = self.hold and desired.get("action") == "install"
        step = "activate" if state["phase"] == "ready" and not braked else "commit" if self.is_proven(now) else None
        if step and now >= self.ask_at and self.client.is_connected():
            self.question, self.ask_at = (step, os.urandom(16).hex(), now), now + 15.0
            self.say("ready", retain=False, generation=state["generation"], step=step, nonce=self.question[1])

    def is_proven(self, now: float) -> bool:
        """Say whether it has been well for long enough; a counter always is."""
        if self.state["phase"] != "trial":
            return False
        desired, check = self.state["desired"], self.state["desired"]["health_check"]
        checks_seconds = check["success_threshold"] * check["interval_seconds"]
        return bool(now - self.trial_since >= max(desired["min_ready_seconds"], checks_seconds))

    def measure(self, now: float) -> None:
        self.sample_at, self.samples, self.count = now + self.sample_seconds, self.samples + 1, self.count + 1
        sample = {"seq": self.samples, "boot_id": self.boot_id, "version": self.state["version"], "healthy": True,
                  "requests_total": self.count, "errors_total": 0, "restarts_total": 0}  # fmt: skip
        self.client.publish(f"{self.root}/health/{self.number % 64:02d}/{self.id}", json.dumps(sample), 0)

    def run(self, url: str) -> None:
        parts = urlsplit(url)
        self.client.username_pw_set(parts.username and unquote(parts.username), unquote(parts.password or ""))
        self.client.connect(parts.hostname or "", parts.port or 1883, 30)
        while True:
            if self.client.loop(0.05) != mqtt.MQTT_ERR_SUCCESS:
                time.sleep(1.0 + self.number / 2**32)  # not in step with the others
                with contextlib.suppress(OSError):
                    self.client.reconnect()
            try:
                self.tick(time.monotonic())
            except (KeyError, TypeError, AttributeError) as error:  # of an order that is none
                print(f"order dropped: {error!r}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("state", "device.json"), ("topic-root", "fleet/v1"), ("sample-seconds", "30")):
        parser.add_argument(f"--{option}", default=default)
    for option in ("broker", "device", "command-key"):
        parser.add_argument(f"--{option}", required=True)
    arguments = parser.parse_args()
    Device(arguments).run(arguments.broker)
