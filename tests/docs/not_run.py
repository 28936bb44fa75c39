"""Command lines that are not typed with their page, each with the reason; their form is looked at all the same."""

from typing import Final

from tests.docs.pages import Step

NOT_RUN: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "make demo": "sets up an environment in the checkout; tests/end_to_end/test_demo.py runs what it runs",
        "make test": "runs all tests, this one among them",
    },
    "docs/air-gap.md device": {
        "tidegate": "a device without a network; tests/end_to_end/test_media_process.py runs them with one",
    },
    "docs/operating.md first": {
        "": "tests/end_to_end/test_first_minutes.py types all of it, with mosquitto and certificates",
    },
    "docs/operating.md tls": {
        "tidegate --client": "needs a broker with TLS; tests/end_to_end/test_first_minutes.py has one",
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
"""By page and session, and by how the command begins."""


def reason(step: Step) -> str | None:
    """Return why a command line is not run; None if it is."""
    listed = NOT_RUN.get(place_of(step), {})
    return next((why for beginning, why in listed.items() if step.text.startswith(beginning)), None)


def place_of(step: Step) -> str:
    """Return page and session, as they stand in the list."""
    return f"{step.page} {step.session}".strip()
