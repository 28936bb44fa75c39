"""What the commands share that go on until they are ended: their log, and the root of the topics."""

import logging
import sys
from typing import Annotated

import typer

TopicRootOption = Annotated[str, typer.Option(help="Leading topic levels; the last is the contract's version.")]


def log_to_stderr() -> None:
    """Log what happens, a line each, beside the lines of JSON on standard output."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
