"""``tidegate init`` and ``tidegate release``: keys, and signed releases from a folder."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.adapters.keys import create_keys, load_private
from orchestrator.adapters.releases import ReleaseStore, build_release
from orchestrator.cli.exits import reported
from orchestrator.examples import find_examples
from schemas.manifest import NOARCH, Format

app = typer.Typer(no_args_is_help=True, help="Build and publish signed releases.")

FolderOption = Annotated[Path, typer.Option("--folder", help="The orchestrator's folder.")]


def init(folder: Annotated[Path, typer.Argument(help="Made if it does not exist.")]) -> None:
    """Make an orchestrator's folder: keys, an example policy, an empty release store."""
    with reported():
        create_keys(folder / "keys")
        policies = folder / "policies"
        policies.mkdir(parents=True, exist_ok=True)
        for example in sorted((find_examples() / "policies").glob("*.yaml")):
            shutil.copyfile(example, policies / example.name)
        (folder / "releases").mkdir(exist_ok=True)
    print(f"{folder} is ready: keys/, policies/, releases/")
    print(
        f"next: tidegate release build TREE --folder {folder} --release NAME --version VERSION --counter 1 -- COMMAND"
    )


@app.command("build")
def build(
    tree: Annotated[Path, typer.Argument(help="Holds app/, models/ and config/.")],
    command: Annotated[list[str], typer.Argument(help="Starts the application in its slot; {port} is replaced.")],
    folder: FolderOption,
    release: Annotated[str, typer.Option(help="Name of the release.")],
    version: Annotated[str, typer.Option(help="What the application reports as its version.")],
    counter: Annotated[int, typer.Option(min=0, help="Grows with every release.")],
    arch: Annotated[str, typer.Option(help="Architecture, or noarch.")] = NOARCH,
    device_type: Annotated[list[str] | None, typer.Option(help="May be given several times; none means any.")] = None,
    compress: Annotated[
        Format, typer.Option(help="Form of the archive; devices need zstandard for tar.zst.")
    ] = "tar.gz",
) -> None:
    """Pack a folder, sign its manifest with the release key, and publish both."""
    with reported():
        key = load_private(folder / "keys" / "release.key")
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
        )
        ReleaseStore(folder / "releases").publish(built)
    artifact = built.manifest.artifact
    print(f"{release}: {len(built.manifest.files)} files, {artifact.size_bytes} bytes, sha256 {artifact.sha256}")
    print(f"next: tidegate start {folder}/policies/careful.yaml --release {release}")
