"""``sites.yaml`` in the orchestrator's folder: where the cache of each site is, read whenever a rollout is planned.

For example::

    sites:
      plant-7:
        cache: http://10.7.0.5:8080
      plant-9:
        cache: [http://cache-a.plant-9.example, http://cache-b.plant-9.example]

A site is what devices call theirs (``site`` in what they announce), or what was imported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from orchestrator.adapters.registry import RegistryError, check_public_url
from orchestrator.core.distribution import SitesError
from schemas.block import StrictBlock
from schemas.messages import Label, Url
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


class Site(StrictBlock):
    """One site.

    Attributes:
        cache: Base addresses of its caches, the preferred first; usually one.
    """

    cache: Annotated[tuple[Base, ...], BeforeValidator(_listed), Field(min_length=1, max_length=_CACHES_MAX)]


class Sites(StrictBlock):
    """The whole file."""

    sites: Annotated[Mapping[Annotated[Label, Field(min_length=1)], Site], Field(min_length=1)]


def read_caches(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the caches of each site that has some, from the orchestrator's folder; nothing where there is no file.

    Raises:
        SitesError: It cannot be read, or is none; the message names line and remedy.
    """
    path = folder / SITES_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SitesError(f"{path}: cannot be read: {error}; mend it, or remove it if no site has a cache") from error
    expected = "a mapping: 'sites:', and below it for each site 'cache:' with its address"
    try:
        sites = parse_yaml(text, Sites, source=str(path), expected=expected, length_max=_TEXT_LENGTH_MAX)
    except YamlTextError as error:
        # The line itself is not told: an address with a password may stand there, and answers are for all to read.
        raise SitesError(str(error).partition("\n")[0]) from error
    return {name: site.cache for name, site in sites.sites.items()}
