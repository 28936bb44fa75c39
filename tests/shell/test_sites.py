from pathlib import Path

import pytest

from orchestrator.adapters.sites import read_caches, read_limits
from orchestrator.core.distribution import SitesError
from schemas.messages import FetchLimits, FetchWindow

NEVER = "sites:\n  p:\n    downloads:\n      window: {start: '22:00', end: '22:00'}\n"
NOWHERE = "sites:\n  p:\n    downloads:\n      window: {start: '22:00', end: '05:00', time_zone: Mars/Olympus}\n"


def test_sites_are_read_with_their_caches_in_order(tmp_path: Path) -> None:
    (tmp_path / "sites.yaml").write_text(
        "sites:\n  plant-7:\n    cache: http://10.7.0.5:8080/\n  Plant 9, north:\n    cache: [https://a, https://b/c]\n"
    )

    assert read_caches(tmp_path) == {
        "plant-7": ("http://10.7.0.5:8080",),
        "Plant 9, north": ("https://a", "https://b/c"),
    }


def test_sites_are_read_with_what_their_devices_may_take(tmp_path: Path) -> None:
    (tmp_path / "sites.yaml").write_text(
        "sites:\n  plant-7:\n    cache: http://a\n  plant-9:\n    downloads:\n      bytes_per_second: 65536\n"
        "      window: {start: '22:00', end: '05:00', time_zone: Europe/Berlin}\n"
    )
    window = FetchWindow(start="22:00", end="05:00", time_zone="Europe/Berlin")

    assert read_limits(tmp_path) == {"plant-9": FetchLimits(bytes_per_second=65_536, window=window)}
    assert read_caches(tmp_path) == {"plant-7": ("http://a",)}


def test_without_a_file_no_site_has_a_cache(tmp_path: Path) -> None:
    assert read_caches(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sites.yaml:1:1: expected a mapping: 'sites:', and below it for each site 'cache:' with its address"),
        ("sites: {}\n", "sites.yaml:1:1: sites: "),
        ("sites:\n  plant-7:\n    cach: http://a\n", "sites.yaml:3:5: unknown key 'cach'; did you mean 'cache'?"),
        ("sites:\n  plant-7: {}\n", "sites.yaml:2:3: plant-7: nothing stands below it: write 'cache:', 'downloads:'"),
        ("sites:\n  p:\n    downloads: {}\n", "sites.yaml:3:5: downloads: it limits nothing: write bytes_per_second"),
        ("sites:\n  p:\n    downloads: {bytes_per_second: 9}\n", "sites.yaml:3:17: bytes_per_second: Input should be"),
        (NEVER, "sites.yaml:4:7: window: a window from 22:00 to 22:00 never opens; leave it out"),
        (NOWHERE, "sites.yaml:4:46: time_zone: no time zone 'Mars/Olympus'; write an IANA name"),
        ("sites:\n  plant-7:\n    cache: 10.7.0.5:8080\n", "sites.yaml:3:5: the cache '10.7.0.5:8080' is no address"),
        ("sites:\n  plant-7:\n    cache: http://u:p@a\n", "sites.yaml:3:5: the cache is told to the whole fleet"),
        ("sites:\n  p:\n    cache: http://a\n  p:\n    cache: http://b\n", "sites.yaml:4:3: found duplicate key"),
        ("sites:\n  plant-7: [\n", "sites.yaml:3:1: "),
    ],
)  # fmt: skip
def test_file_that_is_wrong_is_refused_with_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sites.yaml").write_text(text)

    with pytest.raises(SitesError) as caught:
        read_caches(tmp_path)

    assert message in str(caught.value)
    assert "u:p" not in str(caught.value)


def test_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "sites.yaml").write_bytes(b"\xff")

    with pytest.raises(SitesError, match="cannot be read"):
        read_caches(tmp_path)
