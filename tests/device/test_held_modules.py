"""What an idle agent does not hold in memory, because it was never imported."""

import subprocess
import sys

from schemas.ed25519 import by_python

NOT_HELD = ("argparse", "asyncio", "difflib", "http.server", "unittest", "device_client.adapters.container_host")


def test_an_agent_imports_nothing_that_it_needs_for_a_moment_or_not_at_all() -> None:
    not_held = NOT_HELD if by_python() is None else (*NOT_HELD, "cryptography")
    program = f"import sys, device_client.__main__; print([name for name in {not_held} if name in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
