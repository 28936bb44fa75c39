"""``tidegate keys``: private keys, and the trust root that says whose signatures count.

A root is proposed into a file, signed there by those who hold root keys, and installed into the orchestrator's folder,
from where it reaches the devices.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from orchestrator.adapters import drafts
from orchestrator.adapters.keys import KeyFileError, create_key, load_public
from orchestrator.adapters.roots import RootFolder
from orchestrator.adapters.trust import ROOTS
from orchestrator.cli.exits import reported
from orchestrator.cli.options import SET_UP, JsonOption
from orchestrator.cli.terminal import note
from schemas.dsse import Envelope, key_id
from schemas.trust import Role, Root

app = typer.Typer(
    name="keys", rich_help_panel=SET_UP, no_args_is_help=True, help="Make keys, and say whose signatures count."
)
root_app = typer.Typer(no_args_is_help=True, help="The trust root: propose, sign, install, show.")
app.add_typer(root_app, name="root")

FolderOption = Annotated[Path, typer.Option("--folder", help="The orchestrator's folder.")]
DraftArgument = Annotated[Path, typer.Argument(help="A root in a file.", metavar="FILE")]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="The file to write; VERSION.root.json if it is not given.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(help="After that devices install nothing new under it, like 2028-01-31T00:00:00Z; or never."),
]
Keys = list[str] | None
_ROLES: Final = ("root", "release", "command")


def _keys_option(text: str) -> Any:  # noqa: ANN401 - what typer makes of it
    return typer.Option(help=f"{text} A .pub file or 64 hex digits; may be given several times.")


@app.command("new")
def new(files: Annotated[list[Path], typer.Argument(help="For example root-a.key.", metavar="FILE...")]) -> None:
    """Make a private key that only you can read, and its public key in a .pub file beside it; or several."""
    for file in files:
        with reported():
            public = create_key(file)
        print(f"{file}: key {key_id(public)}, public key in {file.with_suffix('.pub')}")


@root_app.command("init")
def init(
    root: Annotated[list[str], _keys_option("Who may sign the next root.")],
    release: Annotated[list[str], _keys_option("Whose releases are installed.")],
    command: Annotated[list[str], _keys_option("Whose grants are obeyed: the orchestrator's keys/command.pub.")],
    root_threshold: Annotated[int, typer.Option(min=1, help="How many root keys must sign.")] = 1,
    release_threshold: Annotated[int, typer.Option(min=1, help="How many release keys must sign.")] = 1,
    expires: ExpiresOption = None,
    output: OutputOption = None,
) -> None:
    """Propose the first root."""
    with reported():
        proposed = drafts.make_root(
            version=1,
            root=drafts.make_role([drafts.read_key(each) for each in root], root_threshold),
            release=drafts.make_role([drafts.read_key(each) for each in release], release_threshold),
            command=drafts.make_role([drafts.read_key(each) for each in command], 1),
            expires=_moment(expires),
        )
        _propose(proposed, output)


@root_app.command("rotate")
def rotate(
    folder: FolderOption,
    add_root: Annotated[Keys, _keys_option("Who may sign the next root from now on.")] = None,
    remove_root: Annotated[Keys, typer.Option(help="And who not any more: like --add-root, or a key id.")] = None,
    root_threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys must sign.")] = None,
    add_release: Annotated[Keys, _keys_option("Whose releases are installed too.")] = None,
    remove_release: Annotated[Keys, typer.Option(help="And whose not any more.")] = None,
    release_threshold: Annotated[int | None, typer.Option(min=1, help="How many release keys must sign.")] = None,
    add_command: Annotated[Keys, _keys_option("Whose grants are obeyed too.")] = None,
    remove_command: Annotated[Keys, typer.Option(help="And whose not any more.")] = None,
    expires: ExpiresOption = None,
    output: OutputOption = None,
) -> None:
    """Propose the next root, with other keys."""
    with reported():
        before = _newest(folder)
        changed = {
            "root": drafts.change_role(before.root, add_root or (), remove_root or (), root_threshold),
            "release": drafts.change_role(before.release, add_release or (), remove_release or (), release_threshold),
            "command": drafts.change_role(before.command, add_command or (), remove_command or (), None),
            "expires": before.expires if expires is None else _moment(expires),
        }
        _propose(_next(before, changed), output)


@root_app.command("revoke")
def revoke(
    folder: FolderOption,
    release: Annotated[list[str] | None, typer.Argument(help="Names of releases.", metavar="[RELEASE]...")] = None,
    below: Annotated[
        int | None, typer.Option("--below-counter", min=0, help="Revoke every release with a lower counter.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Propose the next root, under which some releases are not installed any more."""
    with reported():
        if not release and below is None:
            raise KeyFileError("what is revoked? name releases, or give --below-counter")
        before = _newest(folder)
        changed = {
            "revoked": tuple(dict.fromkeys((*before.revoked, *(release or ())))),
            "release_counter_min": max(before.release_counter_min, below or 0),
        }
        _propose(_next(before, changed), output)


@root_app.command("sign")
def sign(
    file: DraftArgument,
    key: Annotated[list[Path], typer.Option("--key", help="A private root key; may be given several times.")],
) -> None:
    """Add your signature to a root in a file."""
    with reported():
        drafts.sign_draft(file, key)
        proposed, envelope, _ = drafts.read_draft(file)
        count, others = drafts.missing(proposed.root, envelope)
    if count:
        print(f"root {proposed.version} needs {count} more of its own root keys: {', '.join(others)}")
        print(f"next: tidegate keys root sign {file} --key KEY")
    else:
        print(f"root {proposed.version} is signed by enough of its own root keys")
        print(f"next: tidegate keys root install {file} --folder FOLDER")


@root_app.command("install")
def install(file: DraftArgument, folder: FolderOption) -> None:
    """Put a signed root in force: into the orchestrator's folder, from where devices hear of it."""
    with reported():
        proposed, envelope, data = drafts.read_draft(file)
        roots = RootFolder(folder / "keys" / ROOTS)
        before = roots.newest()
        _check_signed(proposed, envelope, before, file)
        roots.install(data)
        command = folder / "keys" / "command.pub"
        obeyed = not command.exists() or load_public(command).hex() in proposed.command.keys
    print(f"root {proposed.version} is in force in {folder}")
    if not obeyed:
        note(f"{command} is not among its command keys: put a key that is beside it, and restart the orchestrator")
    if before is None:
        print(f'next: give devices {roots.folder / "1.root.json"} and write trust_root = "1.root.json" in agent.toml')
    else:
        print("a running orchestrator tells the devices within a second")


@root_app.command("show")
def show(
    file: Annotated[Path | None, typer.Argument(help="A root in a file.", metavar="[FILE]")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="The orchestrator's folder: its newest root.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a root: whose signatures count, what is revoked, and who has signed it."""
    with reported():
        if folder is not None and file is None:
            file = folder / "keys" / ROOTS / f"{_newest(folder).version}.root.json"
        elif file is None or folder is not None:
            raise KeyFileError("which root? name a file, or give --folder, and not both")
        shown, envelope, _ = drafts.read_draft(file)
    count, others = drafts.missing(shown.root, envelope)
    signed_by = [key_id(key) for key in shown.root.raw_keys if key_id(key) not in others]
    if as_json:
        print(json.dumps({**shown.model_dump(mode="json"), "signed_by": signed_by, "signatures_missing": count}))
        return
    print(f"root {shown.version}, {'expires ' + shown.expires if shown.expires else 'never expires'}")
    for name in _ROLES:
        role: Role = getattr(shown, name)
        print(f"  {name:<8} {role.threshold} of {', '.join(map(key_id, role.raw_keys))}")
    print(f"  revoked  {', '.join(shown.revoked) or 'nothing'}", end="")
    print(f", and every counter below {shown.release_counter_min}" if shown.release_counter_min else "")
    print(f"  signed by {', '.join(signed_by) or 'nobody'}{f'; {count} more must sign' if count else ''}")


def _newest(folder: Path) -> Root:
    newest = RootFolder(folder / "keys" / ROOTS).newest()
    if newest is None:
        raise KeyFileError(f"{folder} has no root yet; type: tidegate keys root init --help")
    return newest


def _next(before: Root, changed: dict[str, Any]) -> Root:
    return drafts.make_root(**{**before.model_dump(), **changed, "version": before.version + 1})


def _propose(root: Root, output: Path | None) -> None:
    file = output or Path(f"{root.version}.root.json")
    drafts.write_draft(root, file)
    print(f"root {root.version} is proposed in {file}; nobody has signed it")
    print(f"next: tidegate keys root sign {file} --key KEY")


def _check_signed(proposed: Root, envelope: Envelope, before: Root | None, file: Path) -> None:
    for role, whose in ((proposed.root, "its own"), *(((before.root, f"root {before.version}'s"),) if before else ())):
        count, others = drafts.missing(role, envelope)
        if count:
            raise KeyFileError(
                f"{file}: {count} more of {whose} root keys must sign: {', '.join(others)}; "
                f"type: tidegate keys root sign {file} --key KEY"
            )


def _moment(expires: str | None) -> str | None:
    return None if expires == "never" else expires
