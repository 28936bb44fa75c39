"""Looking at an orchestrator's folder and machine: keys, journal, releases, policies, room, what is installed.

Everything is opened for reading only, so this may be done while the orchestrator runs.
"""

import platform
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orchestrator.adapters.journal import JOURNAL_NAME, Journal, JournalError
from orchestrator.adapters.keys import load_private
from orchestrator.adapters.releases import ReleaseStore
from orchestrator.adapters.sites import read_caches, read_limits
from orchestrator.adapters.trust import LiveTrust
from orchestrator.doctor.findings import Finding, State, ok
from orchestrator.reporting.words import count_text
from orchestrator.shelf import Policies
from schemas.errors import FleetError

FREE_BYTES_MIN: Final = 1 << 30
_SQLITE_FIXED: Final = (3, 51, 3)
"""From here on two writers cannot damage a WAL; we have one, and nobody else should be given the file."""


def look_at_folder(folder: Path) -> list[Finding]:
    """Look at everything that an orchestrator needs in its folder."""
    if not folder.is_dir():
        return [Finding("folder", State.FAILED, f"{folder} is no folder", f"make it: tidegate init {folder}")]
    return [_keys(folder), _journal(folder), _releases(folder), *_policies(folder), *_sites(folder), _room(folder)]


def look_at_machine() -> Finding:
    """Name what is installed, and what is known to be wrong with it."""
    told = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < _SQLITE_FIXED:
        return ok("machine", f"{told} (older than 3.51.3: let nothing but the orchestrator write into journal.db)")
    return ok("machine", told)


def _keys(folder: Path) -> Finding:
    path = folder / "keys" / "command.key"
    try:
        load_private(path)
    except FleetError as error:
        remedy = f"{path} is the orchestrator's alone (chmod 600); where there is none: tidegate init {folder}"
        return Finding("keys", State.FAILED, str(error), remedy)
    return ok("keys", f"{path} is there, and its owner's alone")


def _journal(folder: Path) -> Finding:
    path = folder / JOURNAL_NAME
    if not path.exists():
        return ok("journal", "none yet; the orchestrator makes it")
    try:
        reader = Journal.open_reader(path)
        try:
            count = reader.verify().entry_count
        finally:
            reader.close()
    except JournalError as error:
        return Finding("journal", State.FAILED, str(error), "docs/operating.md says how to restore a backup")
    return ok("journal", f"the chain of its {count:,} entries is whole")


def _releases(folder: Path) -> Finding:
    store = ReleaseStore(folder / "releases")
    names = store.names()
    if not names:
        return Finding("releases", State.UNKNOWN, "none is published", "tidegate release build --help")
    try:
        public_key = load_private(folder / "keys" / "command.key").public_key().public_bytes_raw()
        store.verify(LiveTrust(folder, public_key).trust)
    except FleetError as error:
        return Finding("releases", State.FAILED, str(error), "publish it again: tidegate release publish")
    return ok("releases", f"{count_text(len(names), 'release')}, digests and signatures hold")


def _policies(folder: Path) -> Iterator[Finding]:
    policies = Policies(folder / "policies")
    good = 0
    for name in policies:
        try:
            _ = policies[name]
            good += 1
        except FleetError as error:
            yield Finding(
                "policies", State.WARNING, str(error).splitlines()[0], f"tidegate lint {folder}/policies/{name}.yaml"
            )
    if good:
        yield ok("policies", f"{good} can be used")
    elif not len(policies):
        yield Finding("policies", State.WARNING, "there is none", f"put one into {folder}/policies")


def _sites(folder: Path) -> Iterator[Finding]:
    try:
        caches, limits = read_caches(folder), read_limits(folder)
    except FleetError as error:
        remedy = "mend it: until then no rollout is planned or started; docs/site-cache.md says what stands there"
        yield Finding("sites", State.FAILED, str(error), remedy)
    else:
        if caches:
            yield ok("sites", f"{count_text(len(caches), 'site')} with a cache")
        if limits:
            yield ok("sites", f"{count_text(len(limits), 'site')} with limits for downloads")


def _room(folder: Path) -> Finding:
    free_bytes = shutil.disk_usage(folder).free
    told = f"{free_bytes / (1 << 30):.1f} GiB free"
    if free_bytes < FREE_BYTES_MIN:
        return Finding(
            "disk", State.WARNING, told, "make room: the orchestrator stops when it cannot write its journal"
        )
    return ok("disk", told)
