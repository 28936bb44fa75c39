"""Builders of samples, random streams of them, and a slow, obvious reading of a stream to compare the monitor with."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, takewhile
from statistics import median
from typing import Any

from hypothesis import strategies as st

from orchestrator.telemetry.devices import Devices
from orchestrator.telemetry.monitor import Monitor
from orchestrator.telemetry.places import Place
from orchestrator.telemetry.sample import Sample
from orchestrator.telemetry.sketch import GAMMA
from orchestrator.telemetry.window import Window
from schemas.messages import HealthSample, LatencySketch

Stream = Sequence[tuple[str, HealthSample, float]]
CELL_SECONDS = 10.0
"""Of a monitor whose longest window is thirty of them."""
_SHOWN = (
    "device_count", "fresh", "silent", "suspect", "sample_count", "request_count", "error_count", "restarts",
    "log_errors", "throttles", "healthy_count", "unhealthy", "undecided", "without_traffic", "without_restarts",
    "without_log_errors", "without_throttles", "without_cpu", "without_quality", "together",
)  # fmt: skip


def sketch_of(values: Iterable[float], gamma: float = GAMMA) -> LatencySketch:
    """Return the wire's sketch of latencies in seconds."""
    indexes = Counter(math.ceil(math.log(value, gamma)) for value in values)
    offset, end = min(indexes), max(indexes)
    return LatencySketch(gamma=gamma, offset=offset, counts=tuple(indexes[i] for i in range(offset, end + 1)))


def sample(
    seq: int,
    *,
    boot_id: str = "boot",
    version: str | None = "2",
    **fields: Any,  # noqa: ANN401 - any field of a sample
) -> HealthSample:
    """Return a sample of a device that is well."""
    known = {"requests_total": 100 * seq, "errors_total": 0, "restarts_total": 0, "healthy": True, "endpoint_up": True}
    return HealthSample.model_validate({"seq": seq, "boot_id": boot_id, "version": version, **known, **fields})


def tell(
    monitor: Monitor, device: str, group: str, new: HealthSample, at: float, *, wave: str = "", is_normal: bool = True
) -> None:
    """Let the monitor observe a sample."""
    monitor.observe(monitor.admit([device], [Place(group, wave, is_normal)]), [Sample.of(new)], at)


def these(monitor: Monitor, groups: Mapping[str, str]) -> Devices:
    """Return devices, given with their groups, as they are judged."""
    return Devices.named(list(groups), monitor.find(list(groups)), groups.values())


def shown(window: Window) -> dict[str, Any]:
    """Return all that a window shows."""
    return {name: getattr(window, name) for name in _SHOWN}


def feed(
    monitor: Monitor,
    device: str,
    group: str = "g",
    *,
    start: float = 0.0,
    first: int = 0,
    count: int = 11,
    **fields: Any,  # noqa: ANN401 - any field of a sample
) -> float:
    """Feed samples every 30 s and return the time of the last one; a callable field is called with ``seq``."""
    for seq in range(first, first + count):
        values = {name: value(seq) if callable(value) else value for name, value in fields.items()}
        tell(monitor, device, group, sample(seq, **values), start + 30.0 * (seq - first))
    return start + 30.0 * (count - 1)


def watched(
    monitor: Monitor,
    device: str,
    group: str = "g",
    **fields: Any,  # noqa: ANN401 - any field of a sample
) -> float:
    """Feed ten intervals of the new version; each brings 100 requests."""
    return feed(monitor, device, group, **fields)


_COUNTER = st.none() | st.integers(0, 300)
_TOTALS = ("requests_total", "errors_total", "restarts_total", "log_errors_total", "throttle_events_total")


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[str, HealthSample, float]]:
    """Draw what a few devices send, with restarts, gaps, repetitions, late samples and counters that fall."""
    stream: list[tuple[str, HealthSample, float]] = []
    seqs: Counter[str] = Counter()
    boots: Counter[str] = Counter()
    versions: dict[str, str | None] = {"a": "1", "b": "2", "c": "2"}
    now = 0.0
    for _ in range(draw(st.integers(0, 40))):
        now += draw(st.sampled_from([0.0, 1.0, 10.0, 30.0, 30.0, 400.0]))
        device = draw(st.sampled_from(["a", "b", "c"]))
        sent = [old for name, old, _ in stream if name == device]
        if sent and draw(st.integers(0, 5)) == 0:
            stream.append((device, draw(st.sampled_from(sent)), now))
            continue
        boots[device] += bool(boots[device] < 3 and draw(st.integers(0, 7)) == 0)
        seqs[device] += draw(st.integers(1, 3))
        fields = {
            "requests_total": draw(_COUNTER),
            "errors_total": draw(_COUNTER),
            "restarts_total": draw(st.none() | st.integers(0, 3)),
            "log_errors_total": draw(st.none() | st.integers(0, 3)),
            "throttle_events_total": draw(st.none() | st.integers(0, 3)),
            "healthy": draw(st.sampled_from([None, True, True, False])),
            "endpoint_up": draw(st.sampled_from([None, True, False])),
            "latency": sketch_of([draw(st.sampled_from([0.01, 0.2, 3.0]))]) if draw(st.booleans()) else None,
        }
        if draw(st.integers(0, 3)):  # mostly counters that rise
            fields |= {name: len(stream) * 10 for name in _TOTALS}
        if draw(st.integers(0, 7)) == 0:
            versions[device] = draw(st.sampled_from(["1", "2", None]))
        new = sample(seqs[device], boot_id=f"boot{boots[device]}", version=versions[device], **fields)
        stream.append((device, new, now))
    return stream


@dataclass
class Brought:
    """What one sample of the current version brought, by the slow reading."""

    at: float
    sample: HealthSample
    first: bool
    bad: bool = False
    good: bool = True
    attributed: bool = True
    requests: int = 0
    errors: int = 0
    crashes: int = 0
    log_errors: int = 0
    throttles: int = 0


def brought(stream: Stream, device: str) -> list[list[Brought]]:
    """Return a device's samples that count, cut where the version changes."""
    kept: list[tuple[HealthSample, float]] = []
    for name, new, at in stream:
        if name != device:
            continue
        same_boot = [old for old, _ in kept if old.boot_id == new.boot_id]
        is_current = not kept or not same_boot or kept[-1][0].boot_id == new.boot_id
        if is_current and all(new.seq > old.seq for old in same_boot):
            kept.append((new, at))
    runs: list[list[Brought]] = []
    for new, at in kept:
        if not runs or new.version not in (None, runs[-1][0].sample.version):
            runs.append([])
        runs[-1].append(_compare([entry.sample for entry in runs[-1]], new, at))
    return runs


def _compare(run: list[HealthSample], new: HealthSample, at: float) -> Brought:
    if not run:
        return Brought(at, new, first=True)
    new_boot = run[0].boot_id != new.boot_id
    boot = [old for old in run if old.boot_id == new.boot_id] + [new]
    traffic = [
        (old.requests_total, old.errors_total) if old.version == run[0].version else (None, None) for old in boot
    ]
    requests, errors = (_last_step(column, new_boot=new_boot) for column in _columns(traffic))
    restarts = _last_step([old.restarts_total for old in boot], new_boot=new_boot)
    log_errors = _last_step([old.log_errors_total for old in boot], new_boot=new_boot)
    throttles = _last_step([old.throttle_events_total for old in boot], new_boot=new_boot)
    crashes = max(restarts, 0) + (run[-1].boot_id != new.boot_id)
    attributed = new.version == run[0].version
    if min(requests, errors, restarts, log_errors, throttles) < 0:
        return Brought(at, new, first=False, bad=True, good=False, attributed=attributed, crashes=crashes)
    good = attributed or False in (new.healthy, new.endpoint_up)
    return Brought(
        at, new, first=False, good=good, attributed=attributed, requests=requests, errors=errors, crashes=crashes,
        log_errors=log_errors, throttles=throttles,
    )  # fmt: skip


def _columns(traffic: list[tuple[int | None, int | None]]) -> tuple[list[int | None], list[int | None]]:
    """Return requests and errors, each unknown where one of them is."""
    whole = [(None, None) if None in pair else pair for pair in traffic]
    return [requests for requests, _ in whole], [errors for _, errors in whole]


def _last_step(values: list[int | None], *, new_boot: bool) -> int:
    """Return by how much the last value is above the one known before; 0 if either is unknown."""
    known = [0] * new_boot + [value for value in values if value is not None]
    return known[-1] - known[-2] if values[-1] is not None and len(known) > 1 else 0


def stale_after(runs: list[list[Brought]]) -> float:
    """Return three usual intervals of a device."""
    gaps = [later.at - earlier.at for earlier, later in pairwise(chain.from_iterable(runs))][-5:]
    return max(3 * (median(gaps) if gaps else 30.0), 1.0)


def outage_seconds(run: list[Brought]) -> float:
    """Return how long the endpoint has been seen down at the end of a run."""
    good = [entry for entry in run if entry.good]
    said = [entry for entry in good if entry.sample.endpoint_up is not None]
    outage = list(takewhile(lambda entry: entry.sample.endpoint_up is False, reversed(said)))
    return good[-1].at - outage[-1].at if outage else 0.0


def counted(entries: Iterable[Brought], amount: Callable[[Brought], int], limit: int) -> int:
    """Add up cell by cell; what is counted in one cell stops at ``limit``."""
    cells: Counter[float] = Counter()
    for entry in entries:
        cells[entry.at // CELL_SECONDS] += amount(entry)
    return sum(min(count, limit) for count in cells.values())
