"""Options and arguments that the operator's commands share."""

import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.adapters.broker_url import ADDRESS, BrokerUrl, BrokerUrlError
from orchestrator.adapters.tls import TlsFiles

LOOK, DECIDE, ACCOUNT, SET_UP = "Look", "Decide", "Account", "Set up and run"
"""Panels of ``tidegate --help``."""
DEFAULT_BROKER: Final = "mqtt://127.0.0.1:1883"
BROKER_VARIABLE: Final = "TIDEGATE_BROKER"
CLIENT_VARIABLE: Final = "TIDEGATE_CLIENT"
FILE_VARIABLES: Final = ("TIDEGATE_CA_FILE", "TIDEGATE_CERTIFICATE_FILE", "TIDEGATE_PRIVATE_KEY_FILE")
"""Where certificates are named for all commands, and for the processes that they start."""
_CLIENT_FILES: Final = ("ca.crt", "client.crt", "client.key")


def broker_url(text: str) -> BrokerUrl:
    """Read an address as ``BrokerUrl.parse``, with the certificates that the environment names.

    Raises:
        BrokerUrlError: It is none.
        TlsFilesError: The certificates cannot be used.
    """
    given = (os.environ.get(name) for name in FILE_VARIABLES)
    return BrokerUrl.parse(text, TlsFiles(*(Path(each) if each else None for each in given)))


def use_client(folder: Path) -> None:
    """Be the user whose folder this is, in this process and in those that it starts.

    Raises:
        BrokerUrlError: It is no such folder.
    """
    try:
        address = (folder / ADDRESS).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerUrlError(
            f"{folder / ADDRESS}: cannot be read; name a user's folder like fleet/access/clients/NAME, which "
            "tidegate init or tidegate broker-config with --tls makes"
        ) from error
    os.environ[BROKER_VARIABLE] = address
    os.environ.update({name: str(folder / file) for name, file in zip(FILE_VARIABLES, _CLIENT_FILES, strict=True)})


def complete_rollouts(incomplete: str) -> list[str]:
    """Name the rollouts that a broker keeps, for the shell; silent when there is none."""
    from orchestrator.cli.completing import rollouts_of_the_broker  # noqa: PLC0415 - no other command waits for it

    return [name for name in rollouts_of_the_broker() if name.startswith(incomplete)]


def on_this_machine(folder: Path | None) -> Path | None:
    """Refuse an object store where a folder is meant, in which releases are found; a path would make one of it.

    Raises:
        BadParameter: It is one.
    """
    if folder is not None and re.match(r"(s3|gs|az|file):/", str(folder)):
        raise typer.BadParameter("name the orchestrator's folder; an object store is named with release publish --to")
    return folder


FolderOption = Annotated[Path, typer.Option("--folder", help="The orchestrator's folder.", callback=on_this_machine)]
BrokerOption = Annotated[
    str, typer.Option("--broker", envvar=BROKER_VARIABLE, help="mqtt://user:password@host:port, mqtts:// for TLS")
]
ClientOption = Annotated[
    Path | None,
    typer.Option(
        "--client", envvar=CLIENT_VARIABLE, help="Your folder from `init` or `broker-config`: broker and certificate."
    ),
]
CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", envvar=FILE_VARIABLES[0], help="Who vouches for the broker's certificate.")
]
CertificateOption = Annotated[
    Path | None,
    typer.Option("--certificate-file", envvar=FILE_VARIABLES[1], help="Vouches for you, in place of a password."),
]
PrivateKeyOption = Annotated[
    Path | None, typer.Option("--private-key-file", envvar=FILE_VARIABLES[2], help="Of your certificate.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it stands in the audit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the answer.")]
RolloutArgument = Annotated[
    str, typer.Argument(help="The rollout, for example r-042.", autocompletion=complete_rollouts, metavar="ROLLOUT")
]
PolicyArgument = Annotated[Path, typer.Argument(help="A policy file.", metavar="POLICY")]
ReleaseOption = Annotated[str, typer.Option("--release", help="A published release.")]
NameOption = Annotated[
    str | None, typer.Option("--rollout", help="Its name, from which the waves are drawn; the next number if omitted.")
]
ActivateOption = Annotated[
    str | None,
    typer.Option(
        "--activate", metavar="WHEN",
        help="at_once, manual or a moment (RFC 3339): all waves fetch and install before; in place of the policy's.",
    ),
]  # fmt: skip
ScaleOption = Annotated[float, typer.Option("--time-scale", help="Divide every duration of the policy by this.")]
