"""The optional tables of the agent's settings: what a device has beside its two slots."""

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from device_client.adapters.metrics import parse_selector
from device_client.core.events import HOOKS, Step
from schemas.peers import is_peer_url
from schemas.windows import Day, WallTime

Port = Annotated[int, Field(ge=1, le=65535)]
Command = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(strict=False, min_length=1, max_length=64)
]
"""Program and arguments; no shell is involved."""

TransportNames = Annotated[tuple[Literal["http", "mqtt"], ...], Field(strict=False, min_length=1, max_length=2)]


class Table(BaseModel):
    """One table; an unknown key is refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class RouterTable(Table):
    """A router in front of the slots, so that both versions run while clients are led from one to the other.

    Attributes:
        template: File that ``router.conf`` is made from, with ``{port}``, ``{slot}`` and ``{version}`` in it; relative
            to the settings file.
        reload: Command that has the router read ``router.conf``.
        public_port: Where clients reach the application through the router.
        timeout_seconds: What the command has, and after it the public port until it answers with the right version.
    """

    template: str
    reload: Command
    public_port: Port
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0


class PeersTable(Table):
    """What the other devices of the site may fetch from this one.

    Attributes:
        host: Where it listens, in the network of the site.
        port: The same.
        url: Where the others reach it, if that is not ``host`` and ``port``.
        upload_bytes_per_second: What it gives in all, at most.
        connections_max: How many it answers at a time.
    """

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:-]{0,126}$")]
    port: Port
    url: str | None = None
    upload_bytes_per_second: Annotated[int, Field(ge=16 * 1024)] | None = None
    connections_max: Annotated[int, Field(ge=1, le=256)] = 16

    @property
    def announced(self) -> str:
        """Where the others reach it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url or f"http://{host}:{self.port}"

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.url is None and self.host in ("0.0.0.0", "::"):  # noqa: S104 - it is refused
            raise ValueError(f"say in url where the others reach it; {self.host} is every address of this device")
        if not is_peer_url(self.announced):
            raise ValueError("url is host and port over HTTP and nothing else: http://10.7.0.31:8081")
        return self


class MediaTable(Table):
    """Where media with orders appear.

    Attributes:
        folder: The folder on it, or a pattern for several, like ``/media/*/tidegate``; relative to the settings file.
        wait_seconds: How long the broker must be away before an order on a medium takes the place of one that came from
            there.
    """

    folder: Annotated[str, Field(min_length=1, max_length=1024)]
    wait_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 600.0


class DrainTable(Table):
    """How an application is asked to finish its work before it is stopped; one of the two ways.

    Attributes:
        path: Asked with POST on the application's port, again and again, until ``in_flight`` in its answer is 0.
        command: Run until it ends with 0; 75 means that it is to be run again.
        grace_seconds: What the application has; then it is stopped all the same.
    """

    path: Annotated[str, Field(pattern="^/[!-~]{0,255}$")] | None = None
    command: Command | None = None
    grace_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if (self.path is None) == (self.command is None):
            raise ValueError("give either path or command")
        return self


class HooksTable(Table):
    """The operator's own commands. 0: go on; 75: later, for a day at the most; anything else: no.

    Attributes:
        before_install: Before a new version is unpacked; what serves is not touched by that.
        before_switch: Before each question whether an install may be activated, seconds before the change.
        after_switch: When the new version serves, or the old one again.
        before_rollback: Before the way back, which goes on whatever it says.
        after_commit: When the new version was accepted; nothing depends on it any more.
        timeout_seconds: What each of them has.
    """

    before_install: Command | None = None
    before_switch: Command | None = None
    after_switch: Command | None = None
    before_rollback: Command | None = None
    after_commit: Command | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0

    @property
    def commands(self) -> dict[Step, tuple[str, ...]]:
        """What is run for which step."""
        named = {step: getattr(self, step.value) for step in HOOKS}
        return {step: command for step, command in named.items() if command is not None}


class WindowTable(Table):
    """When this device may be updated, in its own local time; a way back waits for no window.

    Attributes:
        start: From which time of day on it is open, such as ``22:00``.
        end: From which on it is closed; before ``start``, it is of the next day.
        days: On which it starts.
    """

    start: WallTime
    end: WallTime
    days: Annotated[tuple[Day, ...], Field(strict=False, min_length=1, max_length=7)] = get_args(Day)


class RuntimeTable(Table):
    """Where the application runs.

    Attributes:
        kind: As processes of the agent, as systemd's units, or in containers.
        unit: Of systemd: the template's name up to its ``@``.
        options: Of a container engine: more options of its ``run``.
        grace_seconds: What an application has to end after it was asked to.
    """

    kind: Literal["process", "systemd", "docker", "podman"] = "process"
    unit: Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.][A-Za-z0-9:_.-]{0,99}@$")] = "tidegate-app@"
    options: Annotated[tuple[str, ...], Field(strict=False, max_length=64)] = ()
    grace_seconds: Annotated[float, Field(ge=0.1, le=30)] = 10.0


class LimitsTable(Table):
    """What the application may use at most; with systemd they stand in the unit instead.

    Attributes:
        memory_bytes: Of memory, with all its processes.
        cpu_ratio: Of processors; 1.5 is one and a half.
        tasks: Processes and threads.
        file_bytes: Size of one file that it writes.
        open_files: Of each process.
        user: Whom it runs as; without one, whom the agent runs as.
        cgroup: Of processes: a control group (version 2) in which the agent may make others.
        required: An agent that cannot enforce a limit does not start.
    """

    memory_bytes: Annotated[int, Field(ge=1024 * 1024)] | None = None
    cpu_ratio: Annotated[float, Field(ge=0.01, le=1024)] | None = None
    tasks: Annotated[int, Field(ge=1, le=4_194_304)] | None = None
    file_bytes: Annotated[int, Field(ge=1)] | None = None
    open_files: Annotated[int, Field(ge=16)] | None = None
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$")] | None = None
    cgroup: Annotated[str, Field(pattern="^/")] | None = None
    required: bool = False

    @property
    def given(self) -> list[str]:
        """Return the names of the keys that only the agent can enforce."""
        return [name for name, value in self if name != "required" and value is not None]


def _parse_metric(text: object) -> object:
    """Check that a metric can be told from others."""
    if isinstance(text, str):
        parse_selector(text)
    return text


Metric = Annotated[str, BeforeValidator(_parse_metric)]


class MetricsTable(Table):
    """Where the application's own figures come from.

    Attributes:
        source: It serves a page of metrics in Prometheus's format, or pushes lines to ``state/metrics.sock``.
        path: Of the page.
        port: Of the page; without one, where it serves.
        requests: The counter of requests: ``name``, or ``name{label="value", other=~"5.."}``.
        errors: The counter of those that failed.
        latency: The histogram of their durations in seconds, without ``_bucket``.
    """

    source: Literal["scrape", "push"] = "scrape"
    path: Annotated[str, Field(pattern="^/[!-~]{0,255}$")] = "/metrics"
    port: Port | None = None
    requests: Metric = "app_requests_total"
    errors: Metric = "app_errors_total"
    latency: Metric = "app_request_duration_seconds"
