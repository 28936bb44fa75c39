"""Command lines of the documentation that no test runs, each with the reason; their form is looked at all the same."""

from typing import Final

NOT_RUN: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "make demo": "sets up an environment in the checkout; tests/end_to_end/test_demo.py runs what it runs",
        "make test": "runs all tests, this one among them",
    },
    "docs/operating.md": {
        "sudo useradd": "makes a user of this machine",
        "sudo tidegate-agent install-service": "writes into /etc; tests/device runs it with another destination",
    },
    "docs/tools.md": {
        "MQTT_PASSWORD=PASSWORD telegraf": "Telegraf is no package of Debian; test_tool_examples.py reads its file",
        "node ": "needs node and a package of npm; test_tool_examples.py reads it, with node where that is installed",
    },
}
"""By page, and by how the command begins."""


def reason(page: str, text: str) -> str | None:
    """Return why a command line is not run; None if it is."""
    listed = NOT_RUN.get(page, {})
    return next((why for beginning, why in listed.items() if text.startswith(beginning)), None)
