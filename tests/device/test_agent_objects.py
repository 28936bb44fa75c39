"""Published on the command line to an object store, served by `tidegate registry`, installed by a real agent."""

import json
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.__main__ import app
from orchestrator.adapters.bundles import write_bundle
from orchestrator.adapters.releases import ReleaseStore, build_release
from schemas.messages import Desired
from tests.device.chunk_world import MODEL, TEXT
from tests.device.device_world import (
    CHECK,
    COMMAND,
    COUNTERS,
    QUICK_APPLICATION,
    RELEASE_KEY,
    AgentProcess,
    Orchestrator,
    broker,
    make_tree,
    public,
)
from tests.shell.s3_server import ACCESS_KEY, BUCKET, S3, SECRET_KEY, Exchange, s3_server

STORE = f"s3://{BUCKET}/fleet"
RELEASE = "app-1.1.0"
SECRETS = re.compile(f"{re.escape(SECRET_KEY)}|{ACCESS_KEY}|X-Amz-|Signature=")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_server() as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Build a release into a file, beside a folder whose key has signed it."""
    (tmp_path / "fleet" / "keys").mkdir(parents=True)
    (tmp_path / "fleet" / "keys" / "release.pub").write_text(f"{public(RELEASE_KEY).hex()}\n")
    tree = make_tree(tmp_path, "1.1.0", application=QUICK_APPLICATION)
    (tree / "models" / "model.bin").write_bytes(MODEL + TEXT)
    built = build_release(
        tree, release=RELEASE, version="1.1.0", release_counter=COUNTERS["1.1.0"], command=COMMAND, key=RELEASE_KEY
    )
    write_bundle(tmp_path / "app.tidegate", built)
    return tmp_path / "app.tidegate"


def publish(bundle: Path, to: str) -> Result:
    return CliRunner().invoke(
        app, ["release", "publish", str(bundle), "--folder", str(bundle.parent / "fleet"), "--to", to]
    )


@contextmanager
def registry_process(folder: Path, *options: str) -> Iterator[dict[str, object]]:
    command = [sys.executable, "-m", "orchestrator", "registry", "--store", STORE, "--host", "127.0.0.1", *options]
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 60)
        line = process.stdout.readline() if readable else b""
        assert line, (folder / "registry.log").read_text()
        yield json.loads(line)
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        process.stdout.close()


def test_agent_installs_from_signed_addresses_of_which_one_has_run_out_and_nobody_tells_them(
    s3: S3, bundle: Path, tmp_path: Path
) -> None:
    published = publish(bundle, STORE)
    assert published.exit_code == 0, published.output
    assert re.match(rf"{STORE}: \d+ of \d+ objects sent, ", published.output)
    assert f"{STORE}: 0 of " in publish(bundle, STORE).output
    expired: list[str] = []

    def disturb(exchange: Exchange) -> bool:
        if exchange.is_presigned and "/chunks/" in exchange.path and len(expired) < 2:
            expired.append(exchange.path)
            exchange.refuse(403, "AccessDenied", "Request has expired")
            return True
        return False

    s3.disturb = disturb
    stored = ReleaseStore(tmp_path / "fleet" / "releases").get(RELEASE)
    assert stored is not None
    with registry_process(tmp_path, "--url-seconds", "60") as said, broker() as port:
        assert said["redirects"] == [s3.url]
        agent, orchestrator = (
            AgentProcess(tmp_path, f"mqtt://127.0.0.1:{port}", redirects=said["redirects"]),
            Orchestrator(port, "pi-1"),
        )
        try:
            agent.start()
            manifest, artifact = stored.by_arch["noarch"].references((str(said["registry"]),))
            orchestrator.order(
                Desired(
                    generation=1, epoch=1, rollout="r-1", wave="canary", action="install", release=RELEASE,
                    version="1.1.0", manifest=manifest, artifact=artifact, health_check=CHECK, min_ready_seconds=0.3,
                    progress_deadline_seconds=15.0, commit_on="local_health",
                )
            )  # fmt: skip
            committed = orchestrator.until_reported("idle", 1)
        finally:
            orchestrator.close()
            agent.close()

    assert (committed.installed_version, committed.error) == ("1.1.0", None)
    assert committed.fetched is not None
    assert committed.fetched.sources[0] > len(MODEL), "it counts as the registry's"
    assert len(expired) == 2
    assert s3.count("GET", "fleet/artifacts/") == 0
    told = agent.log.read_text() + (tmp_path / "registry.log").read_text() + committed.model_dump_json()
    assert not SECRETS.search(told + published.output)


def test_release_that_the_object_store_does_not_take_is_not_given_to_the_orchestrator(s3: S3, bundle: Path) -> None:
    refused = publish(bundle, "s3://nobodys-bucket/x")

    assert refused.exit_code == 1
    assert "error: s3://nobodys-bucket/x/releases/app-1.1.0.json: there is no such bucket" in refused.stderr
    assert not (bundle.parent / "fleet" / "releases").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["release", "inspect", RELEASE],
        ["release", "publish", "app.release"],
        ["stage", RELEASE],
        ["media", "export", RELEASE, "--to", "stick"],
    ],
)
def test_command_that_looks_for_releases_in_a_folder_refuses_an_object_store(words: list[str]) -> None:
    refused = CliRunner().invoke(app, [*words, "--folder", STORE], env={"COLUMNS": "200"})

    assert refused.exit_code == 2
    assert "name the orchestrator's folder; an object store is named with release publish --to" in refused.stderr


def test_folder_takes_a_release_as_well(bundle: Path, tmp_path: Path) -> None:
    assert publish(bundle, f"file://{tmp_path}/share").exit_code == 0

    shared, own = (
        {path.relative_to(folder): path.read_bytes() for path in folder.glob("*/*")}
        for folder in (tmp_path / "share", tmp_path / "fleet" / "releases")
    )
    assert shared == own
