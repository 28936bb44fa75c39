"""A plug-in of pytest that ends a run unless what is imported there is the file in which a mutant was planted."""

import importlib
import os
from typing import Final

import pytest

MODULE: Final = "MUTATED_MODULE"
FILE: Final = "MUTATED_FILE"


def pytest_configure() -> None:
    """Import the mutated module, before any test does.

    Raises:
        pytest.UsageError: It cannot be imported, or is another file.
    """
    module, file = os.environ[MODULE], os.environ[FILE]
    try:
        found = importlib.import_module(module).__file__
    except Exception as error:
        raise pytest.UsageError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    if found != file:
        raise pytest.UsageError(f"{found} is imported, and not {file}")
