"""``sites.yaml`` in the orchestrator's folder: each site's cache, and what its devices may take of its line.

It is read whenever a rollout is planned.

For example::

    sites:
      plant-7:
        cache: http://10.7.0.5:8080
      plant-9:
        cache: [http://cache-a.plant-9.example, http://cache-b.plant-9.example]
        downloads:
          bytes_per_second: 65536
          window: {start: "22:00", end: "05:00", time_zone: Europe/Berlin}

A site is what devices call theirs (``site`` in what they announce), or what was imported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from orchestrator.adapters.registry import RegistryError, check_public_url
from orchestrator.core.distribution import SitesError
from schemas.block import StrictBlock
from schemas.messages import BYTES_PER_SECOND_MIN, FetchLimits, Label, Url
from schemas.windows import MaintenanceWindow, WallTime
from schemas.yaml_text import YamlTextError, parse_yaml

SITES_NAME: Final = "sites.yaml"
_TEXT_LENGTH_MAX: Final = 1024 * 1024
_CACHES_MAX: Final = 4


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,)


def _base(url: str) -> str:
    try:
        check_public_url(url, "the cache")
    except RegistryError as error:
        raise ValueError(str(error)) from error
    return url.rstrip("/")


Base = Annotated[Url, AfterValidator(_base)]


class Hours(StrictBlock):
    """Hours of each day, by the clock on the wall at the site."""

    start: WallTime
    end: WallTime
    time_zone: str = "UTC"

    @model_validator(mode="after")
    def _opens(self) -> Self:
        if self.start == self.end:
            raise ValueError(f"a window from {self.start} to {self.end} never opens; leave it out to fetch at any time")
        MaintenanceWindow(start=self.start, end=self.end, time_zone=self.time_zone)  # knows the time zone, or says so
        return self


class Downloads(StrictBlock):
    """What each device of a site may take of its line.

    Attributes:
        bytes_per_second: Of one device, however many fetch.
        window: When they may.
    """

    bytes_per_second: Annotated[int, Field(ge=BYTES_PER_SECOND_MIN, lt=2**53)] | None = None
    window: Hours | None = None

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.bytes_per_second is None and self.window is None:
            raise ValueError("it limits nothing: write bytes_per_second, window, or both, or leave it out")
        return self


class Site(StrictBlock):
    """One site.

    Attributes:
        cache: Base addresses of its caches, the preferred first; usually one.
    """

    cache: Annotated[tuple[Base, ...], BeforeValidator(_listed), Field(min_length=1, max_length=_CACHES_MAX)] = ()
    downloads: Downloads | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.cache and self.downloads is None:
            raise ValueError("nothing stands below it: write 'cache:', 'downloads:', or both")
        return self


class Sites(StrictBlock):
    """The whole file."""

    sites: Annotated[Mapping[Annotated[Label, Field(min_length=1)], Site], Field(min_length=1)]


def read_limits(folder: Path) -> Mapping[str, FetchLimits]:
    """Return what the devices of each site may take of its line, where that is limited.

    Raises:
        SitesError: As ``read_caches``.
    """
    limited = {name: site.downloads for name, site in _read(folder).items() if site.downloads is not None}
    return {name: FetchLimits.model_validate(downloads.model_dump()) for name, downloads in limited.items()}


def read_caches(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the caches of each site that has some, from the orchestrator's folder; nothing where there is no file.

    Raises:
        SitesError: It cannot be read, or is none; the message names line and remedy.
    """
    return {name: site.cache for name, site in _read(folder).items() if site.cache}


def _read(folder: Path) -> Mapping[str, Site]:
    path = folder / SITES_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SitesError(f"{path}: cannot be read: {error}; mend it, or remove it if no site has a cache") from error
    expected = "a mapping: 'sites:', and below it for each site 'cache:' with its address, or 'downloads:'"
    try:
        sites = parse_yaml(text, Sites, source=str(path), expected=expected, length_max=_TEXT_LENGTH_MAX)
    except YamlTextError as error:
        # The line itself is not told: an address with a password may stand there, and answers are for all to read.
        raise SitesError(str(error).partition("\n")[0]) from error
    return sites.sites
