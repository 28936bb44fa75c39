"""What the commands share that run until they are ended: their log, what they announce, and the root of topics."""

import logging
import os
import sys
from typing import Annotated

import typer

log = logging.getLogger(__name__)

TopicRootOption = Annotated[str, typer.Option(help="Leading topic levels; the last is the contract's version.")]


def log_to_stderr() -> None:
    """Log what happens, a line each, beside the lines of JSON on standard output."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def announce(line: str) -> None:
    """Print a line of JSON at once; a service goes on when whoever started it no longer reads them."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        log.warning("nobody reads standard output any more: what is announced there is lost")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
