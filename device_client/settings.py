"""The agent's settings: one TOML file, checked as a whole before anything is started.

An unknown key is refused and never ignored: a brake that somebody has misspelt is no brake.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from device_client.adapters.mqtt import Broker
from device_client.adapters.tls import Tls
from device_client.adapters.trust import ROOTS, PinnedKeys, Trusted, TrustRoot
from device_client.core.redirects import check_server
from device_client.equipment import (
    DrainTable,
    HooksTable,
    LimitsTable,
    MediaTable,
    MetricsTable,
    PeersTable,
    Port,
    RouterTable,
    RuntimeTable,
    TransportNames,
    WindowTable,
)
from schemas.errors import FleetError, TopicError, TrustError
from schemas.ids import Id, Name
from schemas.messages import Label, Labels
from schemas.openpgp import Fingerprint
from schemas.topics import TOPIC_ROOT, TopicTree
from schemas.trust import Root, open_first
from schemas.windows import MaintenanceWindow

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_FILES: Final = ("trust_root", "gpg_keyring", "password_file", "ca_file", "certificate_file", "private_key_file")
_KEY_BYTES: Final = 32


class SettingsError(FleetError):
    """The operator's fault. The text names file, key and remedy."""


def _parse_key(text: object) -> object:
    """Read a raw Ed25519 public key, 64 hex digits."""
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError("a key is a raw Ed25519 public key, 64 hex digits")
    return key


def _parse_fingerprint(text: object) -> object:
    """Read a fingerprint as gpg prints it: in groups, or in one word."""
    return text.replace(" ", "").upper() if isinstance(text, str) else text


Server = Annotated[str, AfterValidator(check_server)]
Key = Annotated[bytes, BeforeValidator(_parse_key)]
Keys = Annotated[tuple[Key, ...], Field(strict=False, min_length=1, max_length=16)]
Fingerprints = Annotated[
    tuple[Annotated[Fingerprint, BeforeValidator(_parse_fingerprint)], ...],
    Field(strict=False, min_length=1, max_length=16),
]


class Settings(BaseModel):
    """What an agent must be told.

    Attributes:
        device: This device's id; the name it has with the broker too, unless ``broker`` names a user.
        device_type: Hardware type; releases may be limited to some.
        arch: Architecture of the releases it can run.
        region: Where it is, for choosing canaries.
        group: Devices that share a baseline.
        site: Where it is, for people.
        tags: Free words for selecting devices.
        known_issues: Keep it out of a canary.
        single_point_of_failure: Keeps it out of a canary.
        maintenance: Keeps it out of a canary and of baselines.
        root: Folder with the slots; relative to the settings file.
        port: The application listens here while it serves; with a router, that of the blue slot.
        standby_port: The application listens here while it is tested; with a router, that of the green slot.
        broker: ``mqtt://user:password@host:port``, or ``mqtts://`` for TLS; user, password and port may be missing.
        password_file: First line is the broker's password; relative to the settings file, like the other files.
        ca_file: Who vouches for the broker; without it, whom the system trusts.
        certificate_file: Vouches for this device, instead of a password.
        private_key_file: Belongs to the certificate.
        topic_root: Leading levels of every topic.
        trust_root: File with the trust root to begin with; says whose releases and grants count, and is followed by
            newer ones. Relative to the settings file, like the other files. The next four are for a device without one.
        release_keys: Whose releases are installed.
        gpg_keyring: Keyring in which the release keys lie, instead of ``release_keys``.
        gpg_fingerprints: Primary keys in it that are trusted.
        command_keys: Whose grants are obeyed.
        sample_interval_seconds: Between two health samples.
        redirects: Servers to which a registry may send this device, like an object store: ``https://host``,
            ``https://*.domain.example``, or ``http://host:port`` where plain HTTP is meant.
        encoding: Of health samples.
        log_level: What is logged.
        runtime: Where the application runs.
        limits: What it may use at most.
        metrics: Where its own figures come from.
        router: Leads clients to one of the slots.
        drain: How the application is asked to finish its work before it is stopped.
        hooks: The operator's own commands at the steps of a change.
        transports: How it fetches: ``http``, ``mqtt`` (pieces over its own session), or both.
        peers: The other devices of the site fetch from here what this one has.
        media: Where somebody may bring orders without a network.
        needs_consent: Somebody at the device must agree before an install is activated.
        time_zone: IANA name, for windows in local time; UTC without one.
        window: When an install may be activated.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    device: Id
    device_type: Name
    arch: Name
    region: Label
    group: Id
    root: str
    port: Port
    standby_port: Port
    broker: str
    trust_root: str | None = None
    release_keys: Keys | None = None
    gpg_keyring: str | None = None
    gpg_fingerprints: Fingerprints | None = None
    command_keys: Keys | None = None
    site: Label | None = None
    tags: Labels = ()
    known_issues: Labels = ()
    single_point_of_failure: bool = False
    maintenance: bool = False
    password_file: str | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    private_key_file: str | None = None
    topic_root: str = TOPIC_ROOT
    redirects: Annotated[tuple[Server, ...], Field(strict=False, max_length=16)] = ()
    sample_interval_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    encoding: Literal["json", "msgpack"] = "msgpack"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    runtime: RuntimeTable = RuntimeTable()
    limits: LimitsTable = LimitsTable()
    metrics: MetricsTable = MetricsTable()
    router: RouterTable | None = None
    drain: DrainTable | None = None
    hooks: HooksTable = HooksTable()
    transports: TransportNames = ("http",)
    peers: PeersTable | None = None
    media: MediaTable | None = None
    needs_consent: bool = False
    time_zone: Label | None = None
    window: WindowTable | None = None

    @property
    def maintenance_window(self) -> MaintenanceWindow | None:
        """When an install may be activated, in the device's time zone."""
        table = self.window
        if table is None:
            return None
        zone = self.time_zone or "UTC"
        return MaintenanceWindow(start=table.start, end=table.end, days=table.days, time_zone=zone)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.port == self.standby_port:
            raise ValueError("port and standby_port must differ, since both are used at once")
        if self.router is not None and self.router.public_port in (self.port, self.standby_port):
            raise ValueError("router.public_port must differ from port and standby_port, which are behind the router")
        if self.peers is not None and self.site is None:
            raise ValueError("peers are the devices of the same site; say in site which one that is, or remove peers")
        if self.peers is not None and "http" not in self.transports:
            raise ValueError("peers are given over HTTP; add http to transports, or remove peers")
        if self.peers is not None and self.peers.port in (self.port, self.standby_port):
            raise ValueError("peers.port must differ from port and standby_port, which are the application's")
        if self.window is not None:
            _check_window(self)
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError("certificate_file and private_key_file belong together; give both or none")
        if self.runtime.kind == "systemd" and self.limits.given:
            raise ValueError("limits: with runtime.kind systemd they stand in the unit; move them there")
        if self.runtime.options and self.runtime.kind not in ("docker", "podman"):
            raise ValueError("runtime.options are for docker and podman; remove them")
        if self.limits.cgroup is not None and self.runtime.kind != "process":
            raise ValueError("limits.cgroup is for runtime.kind process; remove it")
        tls_files = (self.ca_file, self.certificate_file)
        if not self.broker.startswith("mqtts://") and any(file is not None for file in tls_files):
            raise ValueError("ca_file and certificate_file are for TLS; write mqtts:// in broker, or remove them")
        problem = self._problem_with_keys()
        if problem is not None:
            raise ValueError(problem)
        return self

    def _problem_with_keys(self) -> str | None:
        """Say why it is not clear whose releases and grants count."""
        named = ("release_keys", "gpg_keyring", "gpg_fingerprints", "command_keys")
        given = [name for name in named if getattr(self, name) is not None]
        if self.trust_root is not None:
            return f"trust_root says which keys count; remove {', '.join(given)}" if given else None
        if (self.gpg_keyring is None) != (self.gpg_fingerprints is None):
            return "gpg_keyring and gpg_fingerprints belong together; give both or none"
        if self.release_keys is not None and self.gpg_keyring is not None:
            return "release_keys and gpg_keyring are two ways to say the same; give one of them"
        if self.release_keys is None and self.gpg_keyring is None:
            return "nobody's releases count; give trust_root, or release_keys and command_keys"
        return None if self.command_keys is not None else "nobody's grants count; give command_keys beside release keys"


def _check_window(settings: Settings) -> None:
    """Let pydantic say, about the settings as a whole, what is wrong with a window."""
    try:
        _ = settings.maintenance_window
    except ValidationError as error:
        raise ValueError(f"window: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def load_settings(path: Path) -> Settings:
    """Read and check the settings at ``path``; paths in them become absolute.

    Raises:
        SettingsError: The file cannot be read, or something in it cannot be used.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; name a readable file with --config") from error
    except (ValueError, RecursionError) as error:  # beside its own, tomllib lets through those of long numbers
        raise SettingsError(f"{path}: no valid TOML: {error}; correct that place") from error
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error, tree)}") from error
    here = path.resolve().parent
    absolute: dict[str, object] = {
        name: str(here / value) for name in ("root", *_FILES) if (value := getattr(settings, name)) is not None
    }
    if settings.router is not None:
        absolute["router"] = settings.router.model_copy(update={"template": str(here / settings.router.template)})
    if settings.media is not None:
        absolute["media"] = settings.media.model_copy(update={"folder": str(here / settings.media.folder)})
    settings = settings.model_copy(update=absolute)
    try:
        broker_of(settings)
        _pinned_root(settings)
        TopicTree(settings.topic_root)
    except TopicError as error:
        raise SettingsError(f"{path}: key 'topic_root': {error}; correct it") from error
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    return settings


def broker_of(settings: Settings) -> Broker:
    """Return where the broker is and who we are to it.

    Raises:
        SettingsError: The address makes no sense, or the password cannot be read.
    """
    remedy = "write mqtt://user@host:port, or mqtts:// for TLS"
    try:
        parts = urlsplit(settings.broker)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise SettingsError(f"key 'broker': {error}; {remedy}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise SettingsError(f"key 'broker': this is no broker's address; {remedy}")
    password = unquote(parts.password) if parts.password is not None else None
    if settings.password_file is not None:
        try:
            password = Path(settings.password_file).read_text().split("\n", 1)[0].strip()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"key 'password_file': {settings.password_file} cannot be read; make it readable for the agent"
            ) from error
    user = unquote(parts.username) if parts.username else None
    if password is not None and user is None:
        user = settings.device
    tls = Tls(settings.ca_file, settings.certificate_file, settings.private_key_file)
    return Broker(parts.hostname, port, user, password, tls if parts.scheme == "mqtts" else None)


def broker_problem(settings: Settings) -> str | None:
    """Say what keeps the device from connecting as things stand; the agent runs all the same, since it may pass."""
    tls = broker_of(settings).tls
    return None if tls is None else tls.problem()


def trust_of(settings: Settings, state: Path) -> Trusted:
    """Return whose releases and grants count.

    Args:
        settings: Which way they are named.
        state: The folder in which the newest trust root is kept.

    Raises:
        SettingsError: A file or a program that this takes is not there.
    """
    first = _pinned_root(settings)
    if first is not None:
        return TrustRoot(first, state / ROOTS)
    if settings.gpg_keyring is None or settings.gpg_fingerprints is None:
        return PinnedKeys(settings.release_keys or (), settings.command_keys or ())
    from device_client.adapters.gpg import GpgKeys  # noqa: PLC0415 - held only where it is needed

    keys = GpgKeys(Path(settings.gpg_keyring), settings.gpg_fingerprints)
    problem = keys.problem()
    if problem is not None:
        raise SettingsError(f"key 'gpg_keyring': {problem}")
    return PinnedKeys(keys, settings.command_keys or ())


def _pinned_root(settings: Settings) -> Root | None:
    if settings.trust_root is None:
        return None
    path = Path(settings.trust_root)
    try:
        return open_first(path.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"key 'trust_root': {path}: {error.strerror}; copy the orchestrator's keys/roots/1.root.json there"
        ) from error
    except TrustError as error:
        raise SettingsError(f"key 'trust_root': {path}: {error}; take a root that is signed") from error


def _explain(error: ValidationError, tree: dict[str, Any]) -> str:
    """Name the first key that is wrong and say what to do about it; values stay out of it, one may be a secret."""
    # A misspelt key is missing too; name the one that stands there.
    errors = sorted(error.errors(include_url=False, include_input=False), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    key = ".".join(map(str, first["loc"]))
    match first["type"]:
        case "missing":
            return f"key '{key}' is missing; add it"
        case "extra_forbidden":
            known = _keys_beside(first["loc"])
            import difflib  # noqa: PLC0415 - a mistake is told and the agent ends; else it would be held for nothing

            close = difflib.get_close_matches(str(first["loc"][-1]), sorted(known - _keys_given(first["loc"], tree)), 1)
            remedy = f"did you mean '{close[0]}'?" if close else "remove it"
            return f"key '{key}' is unknown; {remedy}"
        case _ if key:
            return f"key '{key}': {first['msg']}; correct it"
        case _:
            return f"{first['msg']}; correct it"


def _keys_beside(place: tuple[str | int, ...]) -> set[str]:
    """Return the keys that may stand where ``place`` is, in the whole file or in one of its tables."""
    model: type[BaseModel] = Settings
    for name in place[:-1]:
        kind = model.model_fields[str(name)].annotation
        model = next(part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel))
    return set(model.model_fields)


def _keys_given(place: tuple[str | int, ...], tree: dict[str, Any]) -> set[str]:
    for name in place[:-1]:
        tree = tree[str(name)]
    return set(tree)
