"""``tidegate release``: signed releases from a folder.

The simple way is ``build``: packed, signed with the orchestrator's release key and published at once. Where release
keys lie elsewhere, or several must sign, a release travels as a file: built unsigned, signed, verified, published.
"""

import json
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from orchestrator.adapters import gpg
from orchestrator.adapters.bundles import read_bundle, resign, write_bundle
from orchestrator.adapters.fleet_folder import FIRST_POLICY
from orchestrator.adapters.keys import KeyFileError, find_release_key, load_private
from orchestrator.adapters.object_store import open_objects
from orchestrator.adapters.releases import BuiltRelease, ReleaseStore, build_release
from orchestrator.adapters.trust import ReleaseTrust, load_trust, trust_of
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP, FolderOption, JsonOption, on_this_machine
from orchestrator.cli.sizes import size_text
from orchestrator.cli.terminal import printable
from orchestrator.core.releases import ReleaseError
from schemas.chunks import read_chunk_list
from schemas.codec import MANIFEST
from schemas.dsse import MANIFEST_TYPE, add_signature, read_envelope
from schemas.errors import DecodeError, SignatureError, TrustError
from schemas.manifest import NOARCH, Format
from schemas.trust import open_first

app = typer.Typer(
    name="release", rich_help_panel=SET_UP, no_args_is_help=True, help="Build, sign, verify and publish releases."
)

OwnFolderOption = Annotated[
    Path | None, typer.Option("--folder", help="The orchestrator's folder.", callback=on_this_machine)
]
BundleArgument = Annotated[Path, typer.Argument(help="Written by `release build -o`.", metavar="FILE")]
_FILES_SHOWN_MAX = 20


@app.command("build")
def build(
    tree: Annotated[Path, typer.Argument(help="Holds app/, models/ and config/.")],
    command: Annotated[list[str], typer.Argument(help="Starts the application in its slot; {port} is replaced.")],
    release: Annotated[str, typer.Option(help="Name of the release.")],
    version: Annotated[str, typer.Option(help="What the application reports as its version.")],
    counter: Annotated[int, typer.Option(min=0, help="Grows with every release.")],
    folder: OwnFolderOption = None,
    key_file: Annotated[
        Path | None, typer.Option("--key", help="The private release key, if it is not in the folder.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write it to this file and publish nothing.")
    ] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="With -o: for keys that are elsewhere.")] = False,
    arch: Annotated[str, typer.Option(help="Architecture, or noarch.")] = NOARCH,
    device_type: Annotated[list[str] | None, typer.Option(help="May be given several times; none means any.")] = None,
    compress: Annotated[
        Format, typer.Option(help="Form of the archive; devices need zstandard for tar.zst.")
    ] = "tar.gz",
    allowed_from: Annotated[
        list[str] | None, typer.Option(help="A version that it may replace; several times; none means any.")
    ] = None,
    chunks: Annotated[
        bool,
        typer.Option(help="Let devices fetch only what changed; agents without chunks in their formats refuse it."),
    ] = True,
) -> None:
    """Pack a folder, sign its manifest with the folder's release key, and publish both; or write them to a file."""
    with reported():
        if output is None and (folder is None or unsigned):
            raise ReleaseError("it must go somewhere: give --folder to sign and publish it, or -o FILE --unsigned")
        signer = key_file or (find_release_key(folder) if folder is not None else None)
        if signer is None and not unsigned:
            raise ReleaseError(
                "there is no key to sign with: give --folder or --key, or --unsigned and sign the file later"
            )
        key = None if signer is None or unsigned else load_private(signer)
        built = build_release(
            tree,
            release=release,
            version=version,
            release_counter=counter,
            command=command,
            key=key,
            arch=arch,
            device_types=device_type or (),
            form=compress,
            allowed_from=allowed_from or (),
            chunked=chunks,
        )
        if output is not None:
            write_bundle(output, built)
        elif folder is not None:
            _publish(built, folder)
    artifact = built.manifest.artifact
    print(f"{release}: {len(built.manifest.files)} files, {artifact.size_bytes} bytes, sha256 {artifact.sha256}")
    if output is not None:
        print(
            f"next: tidegate release {f'sign {output} --key KEY' if unsigned else f'publish {output} --folder FOLDER'}"
        )
    elif folder is not None:
        print(f"next: {_start(folder, release)}")


@app.command("sign")
def sign(
    file: BundleArgument,
    key: Annotated[Path | None, typer.Option("--key", help="A private release key; adds its signature.")] = None,
    gpg_key: Annotated[
        str | None, typer.Option("--gpg", help="A key of your GnuPG, for devices that were given a keyring.")
    ] = None,
) -> None:
    """Sign a release in a file; several may, one after the other."""
    with reported():
        if key is not None and gpg_key is None:
            private = load_private(key)
            signed = resign(file, lambda envelope: add_signature(envelope, MANIFEST_TYPE, private, MANIFEST))
        elif gpg_key is not None and key is None:
            signed = resign(file, lambda envelope: gpg.sign_manifest(envelope, gpg_key))
        else:
            raise ReleaseError("who signs? give --key FILE, or --gpg KEYID, and not both")
    print(f"{printable(signed.manifest.release)}: signed by {', '.join(_signers(signed))}")
    print(f"next: tidegate release publish {file} --folder FOLDER")


@app.command("verify")
def verify(
    file: BundleArgument,
    folder: OwnFolderOption = None,
    root: Annotated[Path | None, typer.Option("--root", help="A trust root, signed by its own keys.")] = None,
) -> None:
    """Say whether devices would install a release, by the folder's keys or by a trust root."""
    with reported():
        built = read_bundle(file)
        _check(built, _trust(folder, root), file)
    print(f"{printable(built.manifest.release)}: signed by {', '.join(_signers(built))}, as it must be")


@app.command("publish")
def publish(
    file: BundleArgument,
    folder: FolderOption,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="An object store, first: s3://bucket/prefix, gs://, az:// or file:///folder.", metavar="URL"
        ),
    ] = None,
) -> None:
    """Put a release into the orchestrator's store, and before that elsewhere if asked, if devices would install it."""
    with reported():
        built = read_bundle(file)
        sent = None if to is None else _publish_to(built, folder, file, to)
        _publish(built, folder, file)
    if sent is not None:
        print(sent)
    print(f"{printable(built.manifest.release)}: published for {built.manifest.artifact.arch}")
    print(f"next: {_start(folder, built.manifest.release)}")


@app.command("inspect")
def inspect(
    release: Annotated[str, typer.Argument(help="A file, or with --folder the name of a published release.")],
    folder: OwnFolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a release and who signed it; nothing is verified."""
    with reported():
        found = [read_bundle(Path(release))] if folder is None else ReleaseStore(folder / "releases").load(release)
    if as_json:
        print(json.dumps([_described(built) for built in found] if folder is not None else _described(found[0])))
        return
    for built in found:
        print("\n".join(_told(built)))


def _publish(built: BuiltRelease, folder: Path, file: Path | None = None) -> None:
    _check(built, load_trust(folder / "keys"), file)
    ReleaseStore(folder / "releases").publish(built)


def _publish_to(built: BuiltRelease, folder: Path, file: Path, url: str) -> str:
    """Put it into an object store, before the orchestrator knows of it, and say what that took."""
    _check(built, load_trust(folder / "keys"), file)
    objects = open_objects(url, "--to", make=True)
    from orchestrator.adapters.object_releases import publish_release  # noqa: PLC0415 - an extra, and it is there

    sent = publish_release(objects, built)
    return f"{objects.shown}: {sent.sent} of {sent.objects} objects sent, {size_text(sent.sent_bytes)}"


def _start(folder: Path, release: str) -> str:
    """Return how it is rolled out: the first one of a folder by a policy that compares with nothing."""
    first = folder / "policies" / FIRST_POLICY
    is_first = first.exists() and len(ReleaseStore(folder / "releases").names()) == 1
    policy = first if is_first else folder / "policies" / "careful.yaml"
    return f"tidegate start {quote(str(policy))} --release {release}"


def _check(built: BuiltRelease, trust: ReleaseTrust, file: Path | None) -> None:
    try:
        trust.open_manifest(built.envelope)
    except SignatureError as error:
        here = (
            f"tidegate release sign {file} --key KEY"
            if file is not None
            else "tidegate release build -o FILE --unsigned"
        )
        who = f"{trust.threshold} of the release keys {', '.join(trust.key_ids)} must sign; " if trust.keys else ""
        raise ReleaseError(f"no device would install {built.manifest.release}: {error}; {who}type: {here}") from error
    except DecodeError as error:
        raise ReleaseError(f"no device would install {built.manifest.release}: {error}; build it again") from error


def _trust(folder: Path | None, root: Path | None) -> ReleaseTrust:
    if folder is not None and root is None:
        return load_trust(folder / "keys")
    if root is None or folder is not None:
        raise ReleaseError("by whose keys? give --root FILE, or --folder FOLDER, and not both")
    try:
        return trust_of(open_first(root.read_bytes()))
    except OSError as error:
        raise KeyFileError(f"{root}: {error.strerror}; name a file like keys/roots/1.root.json") from error
    except TrustError as error:
        raise KeyFileError(f"{root}: {error}; type: tidegate keys root show {root}") from error


def _signers(built: BuiltRelease) -> list[str]:
    """Return whose signatures the envelope claims to hold."""
    return [printable(each.key_id) for each in read_envelope(MANIFEST_TYPE, built.envelope, MANIFEST).signatures] or [
        "nobody"
    ]


def _described(built: BuiltRelease) -> dict[str, Any]:
    manifest = built.manifest.model_dump(mode="json")
    return {**manifest, "signed_by": _signers(built), "unpacked_bytes": built.manifest.unpacked_bytes}


def _told(built: BuiltRelease) -> list[str]:
    manifest, artifact = built.manifest, built.manifest.artifact
    left_out = len(manifest.files) - _FILES_SHOWN_MAX
    return [
        f"{manifest.release}  version {manifest.target_version}, counter {manifest.release_counter}",
        f"  for {artifact.arch}, {', '.join(manifest.device_types) or 'any device type'}",
        f"  from {', '.join(manifest.allowed_from) or 'any version'}",
        f"  signed by {', '.join(_signers(built))}",
        f"  archive {artifact.format}, {artifact.size_bytes} bytes, sha256 {artifact.sha256}",
        f"  {_chunks(built)}",
        f"  runs {printable(' '.join(manifest.command))}",
        *(f"  {each.size_bytes:>12}  {each.mode:o}  {each.path}" for each in manifest.files[:_FILES_SHOWN_MAX]),
        *([f"  and {left_out} more files; --json names all"] if left_out > 0 else []),
    ]


def _chunks(built: BuiltRelease) -> str:
    if built.manifest.chunks is None:
        return "chunks none"
    places = read_chunk_list(built.chunk_list, built.manifest.unpacked_bytes)
    return f"chunks {len({each.chunk for each in places})}, list sha256 {built.manifest.chunks.sha256}"
