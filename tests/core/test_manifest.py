import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import MANIFEST, decode
from schemas.errors import DecodeError
from schemas.manifest import PATH_DEPTH_MAX, Manifest, check_artifact_path

SHA = "ab" * 32


def make_file(path: str = "app/main.py", **changes: object) -> dict[str, Any]:
    return {"path": path, "size_bytes": 10, "mode": 0o644, "sha256": SHA, **changes}


def make_manifest(*paths: str, **changes: object) -> bytes:
    manifest = {
        "release": "vision-app-2.4.0",
        "target_version": "2.4.0",
        "release_counter": 7,
        "artifact": {"sha256": SHA, "size_bytes": 48_211_034, "arch": "aarch64"},
        "files": [make_file(path) for path in paths or ("app/main.py", "models/m.bin", "config/a.yaml")],
        "command": ["python3", "app/main.py", "--port", "{port}"],
    }
    return json.dumps({**manifest, **changes}).encode()


def test_a_manifest_says_what_its_files_take_together() -> None:
    manifest = decode(Manifest, make_manifest(), MANIFEST)

    assert (manifest.unpacked_bytes, manifest.artifact.format, manifest.device_types) == (30, "tar.gz", ())


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "app", "app/", "/app/x", "app//x", "app/./x", "app/../x", "../app/x", "app/..", "app/x/..",
        "App/x", "etc/passwd", "~/app/x", "app/x\n", "app/x\x00", "app/é", "app/a b", "app\\x", "app/a:b", "C:/app/x",
        "app/" + "a" * 101, "app/" + "/".join("a" * PATH_DEPTH_MAX), ".version", "app/\u202e", "bin/x",
    ],
)  # fmt: skip
def test_a_path_that_could_leave_its_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not below|segments"):
        check_artifact_path(path)
    with pytest.raises(DecodeError):
        decode(Manifest, make_manifest(path), MANIFEST)


@pytest.mark.parametrize("path", ["app/x", "models/...", "config/.hidden", "app/" + "/".join("a" * 15)])
def test_a_plain_path_is_accepted(path: str) -> None:
    assert decode(Manifest, make_manifest(path), MANIFEST).files[0].path == path


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (("app/x", "app/x"), "share a path"),
        (("app/x", "app/X"), "differ only in case"),
        (("app/x", "app/x/y"), "lies in what is a file"),
        (("app/a/b/c", "app/A"), "lies in what is a file"),
    ],
)
def test_files_that_cannot_stand_beside_each_other_are_refused(paths: tuple[str, ...], why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode(Manifest, make_manifest(*paths), MANIFEST)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"files": []}, "files"),
        ({"files": [make_file(mode=0o4755)]}, "files.0.mode"),
        ({"files": [make_file(mode="0644")]}, "files.0.mode"),
        ({"files": [make_file(size_bytes=-1)]}, "files.0.size_bytes"),
        ({"files": [make_file(sha256="x")]}, "files.0.sha256"),
        ({"files": [make_file(owner="root")]}, "files.0.owner"),
        ({"command": []}, "command"),
        ({"command": "rm -rf /"}, "command"),
        ({"release_counter": -1}, "release_counter"),
        ({"release_counter": 1.0}, "release_counter"),
        ({"target_version": "../2"}, "target_version"),
        ({"artifact": {"sha256": SHA, "size_bytes": 0, "arch": "a"}}, "artifact.size_bytes"),
        ({"artifact": {"sha256": SHA, "size_bytes": 1, "arch": "a", "format": "zip"}}, "artifact.format"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_signed_description_is_read_strictly(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(Manifest, make_manifest(**changes), MANIFEST)

    assert caught.value.field == field


@given(st.text(max_size=30))
def test_an_accepted_path_stays_below_its_folder(path: str) -> None:
    try:
        check_artifact_path(path)
    except ValueError:
        return
    first, *rest = path.split("/")
    assert first in {"app", "models", "config"}
    assert rest
    assert not {"", ".", ".."} & set(rest)
