"""Copies of the project in which a mutant can be put, each with an environment in which nothing else can be imported.

The environment is a venv whose path is the copy and the packages that are installed here, without the link that an
editable install has to the original: what is not mutated is not even on the path, also in programs that a test starts.
"""

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tomllib
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
FOUND_NOTHING, FAILED = 0, 1
_ENVIRONMENT: Final = ".venv"
_LEFT_OUT: Final = shutil.ignore_patterns(".git", _ENVIRONMENT, ".*_cache", ".hypothesis", "dist", "tidegate-demo")
_ORDINARY: Final = "not mosquitto and not debian"
_RESULT: Final = re.compile(r"^(?:FAILED|ERROR) (tests/\S+)", re.MULTILINE)
_TEST_SECONDS_MAX: Final = 60
_LATER_SECONDS: Final = 10
"""What a mutated file is younger than the original, or its compiled form would be taken for that of the mutant."""


class BrokenRunError(Exception):
    """Tests could not be run at all, so that they say nothing. The text is the end of what pytest said."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """One copy.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    @classmethod
    def of(cls, source: Path, folder: Path) -> "Checkout":
        """Copy the project at ``source`` to ``folder``, which is made; what is compiled there stays so."""
        shutil.copytree(source, folder, ignore=_LEFT_OUT)
        checkout = cls(folder)
        checkout._make_environment()
        return checkout

    def put(self, mutant: Mutant) -> None:
        """Plant ``mutant``, and see that its file is the one which is imported, and can be.

        Raises:
            MisfitError: It does not fit to the text any more.
            BrokenRunError: The mutated file cannot be imported, or is not what is imported.
        """
        path = self.folder / mutant.file
        before = path.stat().st_mtime
        path.write_text(mutant.applied_to(path.read_text(encoding="utf-8")), encoding="utf-8")
        os.utime(path, (before + _LATER_SECONDS, before + _LATER_SECONDS))
        script = "import importlib, sys; print(importlib.import_module(sys.argv[1]).__file__)"
        ended = subprocess.run(
            [self._python, "-c", script, mutant.module], cwd="/", capture_output=True, text=True, check=False
        )
        if ended.stdout.strip() != str(path):
            raise BrokenRunError(f"{mutant.name}: {path} is not imported: {ended.stdout}{ended.stderr[-500:]}")

    def test(self, tests: Sequence[str], *, seconds_max: float, first_only: bool, workers: int = 0) -> tuple[str, ...]:
        """Run tests and name those that failed; none if all passed.

        Args:
            tests: Folders, files or single tests.
            seconds_max: After that whatever still runs is killed.
            first_only: Whether to stop at the first that fails.
            workers: Processes that share the tests; 0: none but the one.

        Raises:
            BrokenRunError: No test was run, or the run itself came to grief.
        """
        command = [self._python, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", _ORDINARY]
        command += [f"--timeout={_TEST_SECONDS_MAX}", *(["-x"] if first_only else []), *tests]
        command += ["-n", str(workers), "--dist", "worksteal"] if workers else []
        code, said = _run(command, self.folder, seconds_max)
        failed = tuple(dict.fromkeys(_RESULT.findall(said)))
        if code == FOUND_NOTHING or (code == FAILED and failed):
            return failed
        raise BrokenRunError(f"pytest ended with {code}: {said[-1500:]}")

    def remove(self) -> None:
        """Take it away again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _python(self) -> str:
        return str(self.folder / _ENVIRONMENT / "bin" / "python")

    def _make_environment(self) -> None:
        environment = self.folder / _ENVIRONMENT
        venv.create(environment, symlinks=True)
        packages = next(environment.glob("lib/python*/site-packages"))
        (packages / "checkout.pth").write_text(f"{self.folder}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
        project = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for name, place in project["scripts"].items():
            module, function = place.split(":")
            script = environment / "bin" / name
            script.write_text(
                f"#!{self._python}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
            )
            script.chmod(0o755)


def _run(command: Sequence[str], folder: Path, seconds_max: float) -> tuple[int, str]:
    """Run a program in a session of its own; return its exit code and what it said."""
    temporary = folder.with_name(f"{folder.name}.tmp")  # beside the copy, since sockets have room for short paths only
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTEST_DEBUG_TEMPROOT": str(temporary), "COLUMNS": "200", "PYTHONPATH": ""}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
    shutil.rmtree(temporary, ignore_errors=True)
    return process.returncode, said
