"""``make sbom``: what is in an install, by name, version and digest, and the same each time."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
RECIPE = re.search(r"^sbom:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)


def make(file: Path) -> bytes:
    """Do as the Makefile says; the tool checks what it writes against CycloneDX's schema."""
    assert RECIPE is not None
    words = RECIPE[1].replace("\\\n", " ").split("cyclonedx-py", 1)[1].split()
    words[words.index("--output-file") + 1] = str(file)
    assert "--validate" in words
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *words], check=True, cwd=ROOT, timeout=100)
    return file.read_bytes()


def test_bill_of_materials_names_every_locked_package_with_its_digests_and_is_the_same_each_time(
    tmp_path: Path,
) -> None:
    first = make(tmp_path / "a.json")

    assert make(tmp_path / "b.json") == first
    assert str(ROOT).encode() not in first
    bill = json.loads(first)
    assert bill["metadata"]["component"]["name"] == "tidegate"
    found = {f"{each['name']}=={each['version']}": json.dumps(each) for each in bill["components"]}
    locked = re.findall(r"^(\S+==\S+)", LOCK, re.MULTILINE)
    assert set(found) == set(locked)
    digests = re.findall(r"sha256:([0-9a-f]{64})", LOCK)
    assert [digest for digest in digests if digest.encode() not in first] == []
