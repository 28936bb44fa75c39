"""Feeds decoders payloads that are bred by what they reach in our code.

``make fuzz-guided``: atheris, which is libFuzzer for Python, for some seconds with each decoder, in a process of its
own. It begins with the examples that the campaign begins with. ``FUZZ="--seconds 600 --only policy"``.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("schemas", "orchestrator", "device_client", "embedded_broker")
_PAYLOAD_BYTES_MAX: Final = 16 * 1024
_MEMORY_MB: Final = 1024
_HANG_SECONDS: Final = 5
_GRACE_SECONDS: Final = 120.0
_REACHED: Final = re.compile(r"cov: (\d+)")
_EXECUTED: Final = re.compile(r"number_of_executed_units: (\d+)")


def breed(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one decoder until its time is over or it fails; this process ends with that."""
    import atheris  # noqa: PLC0415 - installed for this program alone

    with atheris.instrument_imports(include=list(_PACKAGES)):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is observed
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": seconds, "max_len": _PAYLOAD_BYTES_MAX, "rss_limit_mb": _MEMORY_MB, "timeout": _HANG_SECONDS,
        "print_final_stats": 1, "verbosity": 1, "artifact_prefix": f"{corpus.parent}/",
    }  # fmt: skip
    atheris.Setup([name, *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target.feed)
    atheris.Fuzz()


def run(name: str, seconds: int) -> bool:
    """Fuzz one decoder in a process of its own, tell what became of it, and say whether it held."""
    with tempfile.TemporaryDirectory(prefix="fuzz-guided-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.guided", "--seconds", str(seconds), "--breed", name, str(corpus)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds + _GRACE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            sys.stdout.write(f"{name:20} does not end\n")
            return False
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        reached, executed = (found[-1] if found else "?" for found in (_REACHED.findall(said), _EXECUTED.findall(said)))
        outcome = "held" if done.returncode == 0 else f"FAILED (exit {done.returncode})"
        sys.stdout.write(f"{name:20} {outcome}, {executed} payloads, {reached} places reached\n")
        for crash in (path for path in Path(folder).iterdir() if path.is_file()):
            sys.stdout.write(f"{crash.read_bytes()!r}\n{said[-3000:]}\n")
        sys.stdout.flush()
        return done.returncode == 0


def main() -> int:
    """Fuzz some decoders one after the other and return the exit code: 0 all held, 1 one did not."""
    parser = argparse.ArgumentParser(prog="make fuzz-guided", description="Fuzz decoders, led by what they reach.")
    parser.add_argument("--seconds", type=int, default=60, help="for each decoder (default 60)")
    parser.add_argument("--only", action="append", help="this decoder; may be given again")
    parser.add_argument("--breed", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.breed:
        breed(options.breed[0], options.seconds, Path(options.breed[1]))
        return 0
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - must not be imported before it is observed

    failed = [name for name in options.only or TARGETS if not run(name, options.seconds)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
