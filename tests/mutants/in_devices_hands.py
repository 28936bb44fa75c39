"""Mutants of what a device does: files, downloads, proofs, its guardian, its connection."""

from typing import Final

from tests.mutants.mutant import Mutant

_SLOTS: Final = "device_client/adapters/slots.py"
_LAYOUT: Final = "device_client/adapters/layout.py"
_ARTIFACT: Final = "device_client/adapters/artifact.py"
_DOWNLOAD: Final = "device_client/adapters/download.py"
_DECISION: Final = "device_client/guardian/decision.py"
_WATCH: Final = "device_client/guardian/watch.py"
_TRUST: Final = "device_client/adapters/trust.py"
_MQTT: Final = "device_client/adapters/mqtt.py"
_CUT: Final = "tests/device/test_crash_states.py::test_device_gets_up_from_whatever_a_power_cut_leaves"

IN_DEVICES_HANDS: Final = (
    Mutant(
        "link-removed-before-it-is-made",
        "a power cut in that moment leaves a device with nothing that serves",
        _LAYOUT,
        "pending.replace(root / ACTIVE)",
        "(root / ACTIVE).unlink(missing_ok=True)\n    (root / ACTIVE).symlink_to(slot)",
        ("tests/device/test_device_slots.py", _CUT),
    ),
    Mutant(
        "names-not-made-durable",
        "a device says that it has switched, loses power, and wakes up in the state before",
        "device_client/adapters/durable.py",
        "    pending.replace(path)\n    sync_folder(path.parent)",
        "    pending.replace(path)",
        ("tests/device/test_device_slots.py", _CUT),
    ),
    Mutant(
        "marker-outlives-its-files",
        "a half-written slot bears the mark of a verified one, and a rollback goes there",
        _SLOTS,
        "(folder)\n            remove_durably(folder / MARKER)\n            _empty(folder)",
        "(folder)\n            _empty(folder)\n            remove_durably(folder / MARKER)",
        ("tests/device/test_device_slots.py", _CUT),
    ),
    Mutant(
        "rotten-slot-passes",
        "files that a worn card has changed are started as if they were what was signed",
        _SLOTS,
        "if digest != marker.tree_digest or described",
        "if described",
        ("tests/device/test_device_slots.py",),
    ),
    Mutant(
        "serving-slot-is-written",
        "an install overwrites the version that customers use at this moment",
        _SLOTS,
        "if self.active() == slot:\n            raise StepError(",
        "if not slot:\n            raise StepError(",
        ("tests/device/test_device_slots.py",),
    ),
    Mutant(
        "resumed-without-a-new-look",
        "a download that another server completed with rubbish is taken for the real one",
        _DOWNLOAD,
        "if file_digest(self.part) != self.sha256:",
        "if not start and file_digest(self.part) != self.sha256:",
        ("tests/device/test_device_download.py",),
    ),
    Mutant(
        "size-looked-at-afterwards",
        "a server that sends without end fills the device's disk, and the application fails with it",
        _DOWNLOAD,
        "if offset > self.size_bytes:\n                    raise",
        "if offset < 0:\n                    raise",
        ("tests/device/test_device_download.py",),
    ),
    Mutant(
        "manifest-by-one-signature-of-two",
        "whoever steals one of the release keys can install what he likes, although two must sign",
        _TRUST,
        "unseal(MANIFEST_TYPE, envelope, role.raw_keys, MANIFEST, threshold=role.threshold)",
        "unseal(MANIFEST_TYPE, envelope, role.raw_keys, MANIFEST)",
        ("tests/device/test_device_trust.py", "tests/vectors/test_vectors.py"),
    ),
    Mutant(
        "root-not-kept",
        "after a reboot the device trusts a key again that was replaced because it was stolen",
        _TRUST,
        "write_durably(self._kept, encode(kept))",
        "encode(kept)",
        ("tests/device/test_device_trust.py",),
    ),
    Mutant(
        "revoked-release-is-installed",
        "a release that was taken back because it is dangerous reaches devices that were away meanwhile",
        _ARTIFACT,
        "if root is not None and root.revokes(manifest.release, manifest.release_counter):",
        "if root is not None and root.revokes(manifest.release, 2**52):",
        ("tests/vectors/test_vectors.py",),
    ),
    Mutant(
        "older-release-is-installed",
        "an old signed release with a known hole is brought back by whoever can write orders",
        _ARTIFACT,
        "if manifest.release_counter < source.release_counter_min:",
        "if manifest.release_counter < 0:",
        ("tests/device/test_device_artifact.py",),
    ),
    Mutant(
        "replaces-what-it-must-not",
        "a release that can migrate data of 1.4 only is put over 1.2, and the data is gone",
        _ARTIFACT,
        "if manifest.allowed_from and source.serving_version not in manifest.allowed_from:",
        "if manifest.allowed_from and source.serving_version is None:",
        ("tests/vectors/test_vectors.py",),
    ),
    Mutant(
        "unpacked-before-it-is-proven",
        "an archive that changed on disk since it was proven reaches the code that unpacks",
        _ARTIFACT,
        "        manifest = self.verify(source)\n        folder = self._slots.open(slot)",
        "        manifest = self._open_manifest(source)\n        folder = self._slots.open(slot)",
        ("tests/device/test_device_artifact.py",),
    ),
    Mutant(
        "file-with-another-digest",
        "a file in an archive that is not the one of the manifest is installed",
        "device_client/adapters/archive.py",
        "if digest.hexdigest() != entry.sha256:",
        "if not entry.sha256:",
        ("tests/device/test_device_archive.py::test_hostile_archive_is_refused_and_nothing_outside_the_slot_changes",),
    ),
    Mutant(
        "something-follows-the-archive",
        "what somebody has hung on an archive is carried to every device unseen",
        "device_client/adapters/archive.py",
        "if not self.is_over():",
        "if self._stream is None:",
        ("tests/device/test_device_archive.py::test_hostile_archive_is_refused_and_nothing_outside_the_slot_changes",),
    ),
    Mutant(
        "guardian-counts-one-boot-more",
        "a version that reboots its device gets one more try than the agent would give it",
        _DECISION,
        "if trial.boots_left <= len(seen.boots.seen):",
        "if trial.boots_left < len(seen.boots.seen):",
        ("tests/device/test_guardian_decision.py",),
    ),
    Mutant(
        "moments-of-another-boot",
        "a trial that began late in a long boot has its end days after the next one began",
        _DECISION,
        "deadline_at = trial.deadline_at if seen.boot_id == trial.boot_id else trial.progress_deadline_seconds",
        "deadline_at = trial.deadline_at",
        ("tests/device/test_guardian_decision.py",),
    ),
    Mutant(
        "guardian-without-the-lock",
        "agent and guardian change the link at the same time",
        _DECISION,
        "if isinstance(action, Wait) or seen.lock is Lock.OURS:",
        "if isinstance(action, Wait) or seen.lock is not Lock.HELD:",
        ("tests/device/test_guardian_decision.py",),
    ),
    Mutant(
        "guardian-kills-whoever-works",
        "an agent that is busy verifying is killed in the middle of it, again and again",
        _DECISION,
        "return EndAgent() if seen.agent_lives and _is_silent(seen, now) else Wait()",
        "return EndAgent() if seen.agent_lives else Wait()",
        ("tests/device/test_guardian_decision.py",),
    ),
    Mutant(
        "guardian-goes-back-to-rotten-files",
        "the last resort starts files that nobody vouches for, and nothing serves any more",
        _DECISION,
        "if trial.previous is not None and seen.is_previous_sound:",
        "if trial.previous is not None:",
        ("tests/device/test_guardian_decision.py",),
    ),
    Mutant(
        "guardian-writes-down-afterwards",
        "a power cut during the way back has it done again for ever, or reported as something else",
        _WATCH,
        "                self._remember(outcome=outcome)\n                slots.end_others(self._host, outcome.slot)\n"
        "                write_link(self._root, outcome.slot)",
        "                slots.end_others(self._host, outcome.slot)\n"
        "                write_link(self._root, outcome.slot)\n                self._remember(outcome=outcome)",
        (
            "tests/device/test_guardian.py::test_power_cut_at_any_step_leaves_one_verified_slot_and_the_next_run_ends_it",
        ),
    ),
    Mutant(
        "guardian-takes-sleep-for-silence",
        "a laptop that wakes up finds its new version gone although nothing was wrong with it",
        _WATCH,
        "if now - self._looked_at > PAUSE_SECONDS_MAX:",
        "if now < self._looked_at:",
        ("tests/device/test_guardian.py::test_device_that_slept_has_no_silent_agent",),
    ),
    Mutant(
        "sign-of-life-from-a-thread",
        "an agent whose loop hangs is taken for alive for ever, and a bad version serves on",
        "device_client/agent.py",
        "        while not self._is_ending:\n            self.turn()",
        "        import threading\n        import time\n\n        def beat() -> None:\n"
        "            while not self._is_ending:\n                self._service.progressed(self._describe())\n"
        "                time.sleep(0.05)\n\n        threading.Thread(target=beat, daemon=True).start()\n"
        "        while not self._is_ending:\n            self.turn()",
        ("tests/device/test_device_service.py::test_no_thread_gives_signs_of_life_in_place_of_a_loop_that_hangs",),
    ),
    Mutant(
        "deadlines-on-the-wall-clock",
        "a device whose clock is set by years when it finds a time server goes back, or never does",
        "device_client/adapters/boot.py",
        "time.clock_gettime(time.CLOCK_BOOTTIME)",
        "time.clock_gettime(time.CLOCK_REALTIME)",
        ("tests/device/test_device_service.py::test_boot_clock_counts_from_the_boot_and_knows_no_dates",),
    ),
    Mutant(
        "reconnects-in-step",
        "after an outage all devices of a fleet reach the broker in the same second, which it does not survive",
        _MQTT,
        "self._ended.wait(self._random.uniform(0.5, 1.0) * pause_seconds)",
        "self._ended.wait(pause_seconds)",
        ("tests/device/test_device_bus.py",),
    ),
    Mutant(
        "retained-grant-is-heard",
        "a go that somebody left on the broker waits there for every device that asks",
        _MQTT,
        "case Kind.GRANT if retained:",
        "case Kind.GRANT if retained and not payload:",
        ("tests/device/test_device_bus.py",),
    ),
    Mutant(
        "unreadable-brake-is-none",
        "somebody pulls the brake in a hurry, mistypes it, and the rollout goes on",
        _MQTT,
        '            _log.warning("hold.unreadable reason=%s", error)',
        "            raise",
        ("tests/device/test_device_bus.py",),
    ),
    Mutant(
        "brake-remembered-after-it-was-lifted",
        "a device that was away when the brake was lifted is never updated again",
        "device_client/core/device.py",
        "connected=False, hold=False, away_since",
        "connected=False, away_since",
        ("tests/device/test_device_grant.py",),
    ),
    Mutant(
        "neighbour-lies-for-ever",
        "a device of the site that gives other bytes is asked again and again, and nobody hears of it",
        "device_client/adapters/peers.py",
        "self._neighbours.distrust(peer.url, str(lie))",
        "peer.rest(BUSY_SECONDS)",
        ("tests/device/test_peers.py",),
    ),
    Mutant(
        "neighbour-leads-elsewhere",
        "a device of the site sends the others to whatever address it likes",
        "device_client/adapters/http_get.py",
        "if not redirects.allow(here, there):",
        "if not redirects:",
        ("tests/device/test_peers.py",),
    ),
    Mutant(
        "plain-http-by-a-name-for-https",
        "a registry sends devices to a server that the settings name, past its certificate",
        "device_client/core/redirects.py",
        "(scheme, port) == (target.scheme, _server(target)[2])",
        "port == _server(target)[2]",
        ("tests/device/test_device_presigned.py",),
    ),
    Mutant(
        "signed-address-has-run-out-for-good",
        "an address that was good for a minute is taken for an archive that nobody has",
        "device_client/adapters/chunk_http.py",
        "is_absent = status in _ABSENT",
        "pass",
        ("tests/device/test_device_presigned.py",),
    ),
    Mutant(
        "slot-that-is-being-written-is-given",
        "chunks of a slot without its marker are given to the neighbours",
        "device_client/adapters/peer_stock.py",
        "seen = (folder / MARKER).stat()",
        "seen = folder.stat()",
        ("tests/device/test_peers.py",),
    ),
)
