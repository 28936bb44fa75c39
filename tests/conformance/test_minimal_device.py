# ruff: noqa: ANN401 - the example is a stand-alone script, which no type checker follows
"""What the minimal client must not get wrong: signatures in pure Python, and its state on disk."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.dsse import GRANT_TYPE, MANIFEST_TYPE, seal
from tests.conformance.conformance_bench import MINIMAL, globals_of, load_minimal, verification

ORDER = 2**252 + 27742317777372353535851937790883648493
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(8)]


def is_signed(key: bytes, signature: bytes, message: bytes) -> bool:
    return bool(verification()["is_signed"](key, signature, message))


@pytest.mark.parametrize("key", KEYS)
def test_signature_is_accepted_and_no_bit_of_it_may_differ(key: Ed25519PrivateKey) -> None:
    public, message = key.public_key().public_bytes_raw(), b"a grant"
    signature = key.sign(message)

    assert is_signed(public, signature, message)
    assert not is_signed(public, signature, message + b"!")
    for place in (0, 31, 32, 63):
        spoiled = bytes(byte ^ (index == place) for index, byte in enumerate(signature))
        assert not is_signed(public, spoiled, message)


def test_second_encoding_of_a_signature_is_refused() -> None:
    key, message = KEYS[0], b"a grant"
    signature = key.sign(message)
    larger = int.from_bytes(signature[32:], "little") + ORDER

    assert not is_signed(key.public_key().public_bytes_raw(), signature[:32] + larger.to_bytes(32, "little"), message)


def test_manifest_is_not_taken_for_a_grant() -> None:
    envelope = seal(MANIFEST_TYPE, b"{}", KEYS[0])
    with pytest.raises(ValueError, match="not signed"):
        verification()["unseal"](GRANT_TYPE, envelope, KEYS[0].public_key().public_bytes_raw())


def make_device(folder: Path) -> Any:
    return load_minimal().Device(
        Namespace(
            device="pi-7", command_key="00" * 32, state=str(folder / "state"), topic_root="fleet/v1", sample_seconds=1
        )
    )


def install_order(version: str, **changes: Any) -> dict[str, Any]:
    return {
        "digest": "cd" * 32,
        "generation": 1,
        "epoch": 1,
        "action": "install",
        "release": "r",
        "version": version,
        "manifest": {"urls": []},
        "artifact": {"sha256": "ab" * 32, "sources": []},
        "health_check": {"success_threshold": 1, "interval_seconds": 1},
        "min_ready_seconds": 1,
        "progress_deadline_seconds": 10,
        "commit_on": "round_trip",
        **changes,
    }


def in_trial(folder: Path, **changes: Any) -> Any:
    device = make_device(folder)
    globals_of(device)["fetch"] = lambda _file, _urls: None
    device.accept(install_order("1.0.0", **changes), 0.0)
    device.switch(device.state["desired"], 0.0)
    assert device.state["phase"] == "trial"
    return device


def test_trial_without_permission_goes_back_at_its_deadline(tmp_path: Path) -> None:
    device = in_trial(tmp_path)

    device.tick(10.1)

    assert (device.state["phase"], device.state["version"]) == ("rolled_back", "0.0.0")
    assert device.state["error"]["code"] == "deadline_exceeded"


def test_trial_that_waits_for_the_gate_outlives_the_deadline_once_it_is_proven(tmp_path: Path) -> None:
    device = in_trial(tmp_path, commit_on="gate")

    device.tick(5.0)
    device.tick(100.0)

    assert device.state["phase"] == "trial"


def test_order_of_an_install_waits_for_the_end_of_a_trial(tmp_path: Path) -> None:
    device = in_trial(tmp_path)
    device.order = install_order("2.0.0", generation=2)

    device.tick(1.0)
    assert device.state["generation"] == 1
    device.tick(10.1)
    device.tick(10.2)

    assert (device.state["generation"], device.state["phase"]) == (2, "ready")


def test_order_that_is_written_anew_in_a_trial_is_the_one_that_a_grant_must_name(tmp_path: Path) -> None:
    device = in_trial(tmp_path)
    device.order = install_order("1.0.0", epoch=2, digest="ef" * 32)

    device.tick(0.1)

    assert (device.state["phase"], device.state["desired"]["digest"]) == ("trial", "ef" * 32)


def test_restart_in_a_trial_comes_back_to_the_old_version_and_forgets_nothing(tmp_path: Path) -> None:
    in_trial(tmp_path)

    again = make_device(tmp_path)

    assert (again.state["version"], again.state["generation"], again.state["phase"]) == ("0.0.0", 1, "rolled_back")
    assert json.loads((tmp_path / "state").read_text())["phase"] == "rolled_back"


def test_example_is_as_short_as_it_is_called() -> None:
    assert sum(1 for line in MINIMAL.read_text().splitlines() if line.strip()) < 200
