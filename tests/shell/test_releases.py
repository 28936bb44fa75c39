import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from device_client.adapters.compression import ZSTD_WINDOW_BYTES_MAX
from orchestrator.adapters.bundles import read_bundle, resign, write_bundle
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from orchestrator.adapters.trust import ReleaseTrust, trust_of
from orchestrator.core.releases import ReleaseError, StoredArtifact, StoredRelease
from schemas.codec import MANIFEST, decode
from schemas.dsse import MANIFEST_TYPE, add_signature, unseal
from schemas.manifest import Format, Manifest
from tests.core.trust_roots import make_root

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key().public_bytes_raw()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for path, text in {"app/main.py": "print(1)", "models/m.bin": "weights", "config/c.yaml": "a: 1"}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "app" / "main.py").chmod(0o4777)
    return tree


def build(
    tree: Path,
    *,
    version: str = "2.4.0",
    counter: int = 4,
    arch: str = "noarch",
    form: Format = "tar.gz",
    key: Ed25519PrivateKey | None = KEY,
) -> BuiltRelease:
    return build_release(
        tree,
        release=f"app-{version}",
        version=version,
        release_counter=counter,
        command=("python3", "app/main.py", "{port}"),
        key=key,
        arch=arch,
        form=form,
    )


def test_build_gives_the_same_bytes_when_times_owners_and_folder_differ(tree: Path, tmp_path: Path) -> None:
    first = build(tree)
    elsewhere = tmp_path / "elsewhere"
    tree.rename(elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))

    assert build(elsewhere) == first


def test_same_archive_comes_in_every_form(tree: Path) -> None:
    plain, gzipped, zstd = (build(tree, form=form) for form in ("tar", "tar.gz", "tar.zst"))

    assert gzip.decompress(gzipped.artifact) == plain.artifact
    assert zstandard.ZstdDecompressor().decompress(zstd.artifact) == plain.artifact
    assert [built.manifest.artifact.format for built in (plain, gzipped, zstd)] == ["tar", "tar.gz", "tar.zst"]
    assert build(tree, form="tar.zst") == zstd


def test_large_archive_needs_no_larger_window_than_devices_have(tree: Path) -> None:
    (tree / "models" / "m.bin").write_bytes(bytes(20_000_000))

    frame = zstandard.get_frame_parameters(build(tree, form="tar.zst").artifact)

    assert 0 < frame.window_size <= ZSTD_WINDOW_BYTES_MAX
    assert frame.has_checksum


def test_zstd_without_its_library_names_the_remedy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)

    with pytest.raises(ReleaseError, match=r"install tidegate\[zstd\]"):
        build(tree, form="tar.zst")


def test_archive_holds_exactly_the_files_of_the_manifest_in_its_order(tree: Path) -> None:
    built = build(tree)

    with tarfile.open(fileobj=io.BytesIO(built.artifact)) as archive:
        members = archive.getmembers()
        contents = [archive.extractfile(member) for member in members]
        texts = [file.read() for file in contents if file is not None]
    assert [(m.name, m.size, m.mode) for m in members] == [
        (entry.path, entry.size_bytes, entry.mode) for entry in built.manifest.files
    ]
    assert [m.name for m in members] == ["app/main.py", "config/c.yaml", "models/m.bin"]
    assert texts == [b"print(1)", b"a: 1", b"weights"]
    assert members[0].mode == 0o755, "executable, without setuid"
    assert all((m.isreg(), m.mtime, m.uid, m.gid, m.uname, m.gname) == (True, 0, 0, 0, "", "") for m in members)


def test_archive_carries_no_time_and_no_name_in_its_gzip_header(tree: Path) -> None:
    assert build(tree).artifact[3:8] == bytes(5)
    assert gzip.decompress(build(tree).artifact)[257:263] == b"ustar\0"


def test_envelope_opens_with_the_release_key_and_holds_the_manifest(tree: Path) -> None:
    built = build(tree)

    assert decode(Manifest, unseal(MANIFEST_TYPE, built.envelope, [PUBLIC], MANIFEST), MANIFEST) == built.manifest


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda tree: (tree / "app" / "link").symlink_to("main.py"), "app/link is a link"),
        (lambda tree: (tree / "linked").symlink_to(tree / "app"), "linked is a link"),
        (lambda tree: os.mkfifo(tree / "app" / "pipe"), "app/pipe is a link or a special file"),
        (lambda tree: (tree / "README").write_text(""), "README"),
        (lambda tree: (tree / ".version").write_text(""), ".version"),
        (lambda tree: (tree / "app" / "a b").write_text(""), "a b"),
        (lambda tree: (tree / "app" / "new\nline").write_text(""), "new"),
        (lambda tree: (tree / "app" / "MAIN.py").write_text(""), "differ only in case"),
    ],
)
def test_build_refuses_the_tree_when_something_in_it_is_not_allowed(tree: Path, spoil: object, place: str) -> None:
    assert callable(spoil)
    spoil(tree)

    with pytest.raises(ReleaseError, match=place) as refused:
        build(tree)

    assert str(tree) in str(refused.value)


def test_build_refuses_a_tree_without_files(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    with pytest.raises(ReleaseError, match="holds no files; put the application below"):
        build(tmp_path)


def test_build_refuses_a_tree_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is no folder"):
        build(tmp_path / "absent")


def test_build_refuses_a_path_that_no_archive_of_the_format_can_hold(tree: Path) -> None:
    deep = tree / "app" / ("a" * 90) / ("b" * 90) / ("c" * 90)
    deep.mkdir(parents=True)
    (deep / "file").write_text("")

    with pytest.raises(ReleaseError, match="shorten its path"):
        build(tree)


@pytest.mark.parametrize(("version", "counter", "field"), [("../x", 1, "release"), ("1", -1, "release_counter")])
def test_build_names_the_field_when_a_value_is_not_allowed(tree: Path, version: str, counter: int, field: str) -> None:
    with pytest.raises(ReleaseError, match=f": {field}: "):
        build(tree, version=version, counter=counter)


def test_store_returns_what_was_published(tree: Path, tmp_path: Path) -> None:
    built, store = build(tree), ReleaseStore(tmp_path / "store")

    stored = store.publish(built)

    assert stored == ReleaseStore(tmp_path / "store").get("app-2.4.0")
    assert store.names() == ("app-2.4.0",)
    artifact = stored.by_arch["noarch"]
    assert (tmp_path / "store" / "artifacts" / artifact.artifact_sha256).read_bytes() == built.artifact
    assert (tmp_path / "store" / "manifests" / artifact.manifest_sha256).read_bytes() == built.envelope
    assert (artifact.unpacked_bytes, artifact.artifact_size_bytes) == (19, len(built.artifact))
    store.verify(
        ReleaseTrust(
            (
                STRANGER,
                PUBLIC,
            )
        )
    )


def test_store_is_unchanged_when_the_same_release_is_published_twice(tree: Path, tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    first = store.publish(build(tree))

    assert store.publish(build(tree)) == first
    assert len(list((tmp_path / "store" / "artifacts").iterdir())) == 1


def test_store_refuses_other_bytes_under_a_published_name(tree: Path, tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    first = store.publish(build(tree))
    (tree / "app" / "main.py").write_text("print(2)")

    with pytest.raises(ReleaseError, match="give this one a new name"):
        store.publish(build(tree))

    assert store.get("app-2.4.0") == first


def test_store_refuses_another_counter_for_a_second_architecture(tree: Path, tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    store.publish(build(tree, arch="aarch64"))

    with pytest.raises(ReleaseError, match="never changes"):
        store.publish(build(tree, arch="x86_64", counter=5))


def test_store_collects_the_architectures_of_one_release(tree: Path, tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    store.publish(build(tree, arch="aarch64"))
    (tree / "app" / "main.py").write_text("print(2)")
    stored = store.publish(build(tree, arch="x86_64"))

    assert sorted(stored.by_arch) == ["aarch64", "x86_64"]
    assert store.get("app-2.4.0") == stored
    store.verify(ReleaseTrust((PUBLIC,)))


def test_store_knows_nothing_when_nothing_was_published(tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "absent")

    assert (store.names(), store.get("app-1")) == ((), None)
    store.verify(ReleaseTrust((PUBLIC,)))


def test_release_is_published_again_when_only_its_signatures_differ(tree: Path, tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    store.publish(build(tree))
    draft = build(tree, key=None)
    other = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    signed = replace(draft, envelope=add_signature(draft.envelope, MANIFEST_TYPE, other, MANIFEST))

    stored = store.publish(signed)

    assert stored.by_arch["noarch"].manifest_sha256 == hashlib.sha256(signed.envelope).hexdigest()
    store.verify(ReleaseTrust((STRANGER,)))
    with pytest.raises(ReleaseError, match="no signature of a trusted key"):
        store.verify(ReleaseTrust((PUBLIC,)))


def test_release_that_the_root_revokes_does_not_verify(store: ReleaseStore) -> None:
    root = make_root(release={"keys": [PUBLIC.hex()], "threshold": 1}, revoked=("app-2.4.0",))

    with pytest.raises(ReleaseError, match=r"app-2\.4\.0 is revoked by root 1"):
        store.verify(trust_of(root))


def test_store_gives_back_whole_what_was_published(tree: Path, tmp_path: Path) -> None:
    store = ReleaseStore(tmp_path / "store")
    store.publish(build(tree))

    assert store.load("app-2.4.0") == [build(tree)]
    with pytest.raises(ReleaseError, match=r"no release 'app-9' in .*; there are: app-2\.4\.0"):
        store.load("app-9")


def test_release_travels_in_a_file_and_is_signed_there_by_one_after_the_other(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "app.release"
    write_bundle(file, build(tree, key=None))
    for key in (KEY, Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)):
        resign(file, partial(add_signature, payload_type=MANIFEST_TYPE, key=key, bounds=MANIFEST))

    found = read_bundle(file)

    assert found.artifact == build(tree).artifact
    assert ReleaseTrust((PUBLIC, STRANGER), threshold=2).open_manifest(found.envelope) == build(tree).manifest
    before = file.read_bytes()
    write_bundle(file, found)
    assert file.read_bytes() == before, "the same contents give the same bytes"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "no release in a file"),
        (lambda data: data[:2000], "no release in a file"),
        (lambda data: data.replace(b"artifact\0", b"artifakt\0"), "no release in a file"),
        (lambda data: data.replace(b'"payloadType"', b'"payloadTyqe"'), "no release in a file"),
        (lambda data: data.replace(b"\x1f\x8b\x08", b"\x1f\x8b\x09"), "its archive is not the one of its manifest"),
    ],
)
def test_damaged_file_is_refused_with_its_name_and_the_remedy(
    tree: Path, tmp_path: Path, damage: object, message: str
) -> None:
    file = tmp_path / "app.release"
    write_bundle(file, build(tree))
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))

    with pytest.raises(ReleaseError, match=message) as caught:
        read_bundle(file)

    assert str(caught.value).startswith(str(file))


@given(name=st.text())
def test_store_finds_nothing_outside_itself_whatever_the_name(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "contained"
    (folder / "store" / "releases").mkdir(parents=True, exist_ok=True)
    (folder / "secret.json").write_text("{}")

    assert ReleaseStore(folder / "store").get(name) is None
    assert ReleaseStore(folder / "store").get("../../secret") is None


@pytest.fixture
def store(tree: Path, tmp_path: Path) -> ReleaseStore:
    store = ReleaseStore(tmp_path / "store")
    store.publish(build(tree))
    return store


def test_verify_refuses_a_release_of_a_stranger(store: ReleaseStore) -> None:
    with pytest.raises(ReleaseError, match=r"no signature of a trusted key; remove .*app-2\.4\.0\.json"):
        store.verify(ReleaseTrust((STRANGER,)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", "9.9"), ("release_counter", 99)],
)
def test_verify_refuses_an_index_that_differs_from_its_manifest(store: ReleaseStore, field: str, value: object) -> None:
    index = store.folder / "releases" / "app-2.4.0.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), field: value}))

    with pytest.raises(ReleaseError, match="differs from what the index says"):
        store.verify(ReleaseTrust((PUBLIC,)))


def test_verify_refuses_a_manifest_under_another_digest(store: ReleaseStore, tree: Path) -> None:
    (manifest,) = (store.folder / "manifests").iterdir()
    manifest.write_bytes(build(tree, version="2.5.0", counter=5).envelope)

    with pytest.raises(ReleaseError, match="differs from what the index says"):
        store.verify(ReleaseTrust((PUBLIC,)))


@pytest.mark.parametrize("folder", ["manifests", "artifacts"])
@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"short")])
def test_verify_names_the_file_that_is_missing_or_cut(store: ReleaseStore, folder: str, spoil: object) -> None:
    (path,) = (store.folder / folder).iterdir()
    assert callable(spoil)
    spoil(path)

    with pytest.raises(ReleaseError, match=path.name):
        store.verify(ReleaseTrust((PUBLIC,)))


@pytest.mark.parametrize("text", ["", "{", '{"release": "app-2.4.0"}', "[" * 5000])
def test_get_names_the_index_when_it_is_damaged(store: ReleaseStore, text: str) -> None:
    (store.folder / "releases" / "app-2.4.0.json").write_text(text)

    with pytest.raises(ReleaseError, match=r"app-2\.4\.0\.json: .*publish app-2\.4\.0 again"):
        store.get("app-2.4.0")


def test_get_refuses_an_index_that_describes_another_release(store: ReleaseStore) -> None:
    index = store.folder / "releases" / "app-2.4.0.json"
    index.rename(index.with_name("app-9.json"))

    with pytest.raises(ReleaseError, match=r"it describes app-2\.4\.0"):
        store.get("app-9")


def make_artifact(arch: str) -> StoredArtifact:
    digest = "0" * 64
    return StoredArtifact(
        manifest_sha256=digest, manifest_size_bytes=1, artifact_sha256=digest, artifact_size_bytes=1, arch=arch,
        unpacked_bytes=1, device_types=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arches", "device", "expected"),
    [
        (("aarch64", "noarch"), "aarch64", "aarch64"),
        (("aarch64", "noarch"), "x86_64", "noarch"),
        (("aarch64",), "x86_64", None),
    ],
)
def test_artifact_is_the_exact_one_else_noarch_else_none(
    arches: tuple[str, ...], device: str, expected: str | None
) -> None:
    stored = StoredRelease(
        release="a", version="1", release_counter=1, by_arch={arch: make_artifact(arch) for arch in arches}
    )

    picked = stored.artifact_for(device)

    assert (picked.arch if picked else None) == expected
