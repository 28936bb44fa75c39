"""Writes ``integrity.json``: vectors of grants, manifests and trust roots that other implementations can be held to.

``python -m tests.vectors.generate`` writes it anew; the same table gives the same bytes.
"""

import json
from pathlib import Path
from typing import Any

from tests.core.trust_roots import key
from tests.device.device_bench import digest, make_desired
from tests.vectors.grants import grants
from tests.vectors.making import encode64
from tests.vectors.manifests import manifests
from tests.vectors.roots import roots

FILE = Path(__file__).with_name("integrity.json")
DESIRED = make_desired(7, epoch=3)
DESIRED_SHA256 = digest(DESIRED.model_dump_json())
KEYS = ("root-a", "root-b", "root-c", "release-a", "release-b", "command", "command-2", "stranger", "rotated-away")


def generate() -> str:
    """Return the contents of the file."""
    kinds = {"grant": grants(DESIRED_SHA256), "manifest": manifests(), "root": roots()}
    document: dict[str, Any] = {
        "about": "Each envelope is what a device receives; given is what it knows (a vector's own given replaces "
        "fields of its kind's); expected is accepted, or the code of the refusal, after which nothing has changed. "
        "An envelope is text in UTF-8; spaces_behind says how many spaces follow it.",
        "private_keys": {name: encode64(key(name).private_bytes_raw()) for name in KEYS},
        "kinds": {
            kind: {"given": given, "vectors": [each.as_object() for each in vectors]}
            for kind, (given, vectors) in kinds.items()
        },
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(generate())
