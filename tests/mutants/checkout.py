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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.mutants import imported
from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
FOUND_NOTHING, FAILED = 0, 1
_ENVIRONMENT: Final = ".venv"
_LEFT_OUT: Final = shutil.ignore_patterns(".git", _ENVIRONMENT, ".*_cache", ".hypothesis", "dist", "tidegate-demo")
_ORDINARY: Final = "not mosquitto and not debian"
_RESULT: Final = re.compile(r"^(?:FAILED|ERROR) (tests/\S+)", re.MULTILINE)
_TIMED_OUT: Final = re.compile(r"^(?:FAILED|ERROR) (tests/\S+).*Timeout \(>", re.MULTILINE)
_LATER_SECONDS: Final = 10
"""What a mutated file is younger than the original, or its compiled form would be taken for that of the mutant."""


class BrokenRunError(Exception):
    """Tests could not be run at all, so that they say nothing. The text is the end of what pytest said."""


class Checkout:
    """One copy, in which there is a mutant or none.

    Args:
        source: The project; what is compiled there stays so.
        folder: Where the copy is made.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        self._planted: dict[str, str] = {}
        shutil.copytree(source, folder, ignore=_LEFT_OUT)
        self._make_environment()

    @contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """Have ``mutant`` in the copy; tests are run only if its file is the one that is imported.

        Raises:
            MisfitError: It does not fit to the text any more.
        """
        path = self.folder / mutant.file
        sound, moment = path.read_text(encoding="utf-8"), path.stat().st_mtime
        path.write_text(mutant.applied_to(sound), encoding="utf-8")
        os.utime(path, (moment + _LATER_SECONDS, moment + _LATER_SECONDS))
        self._planted = {imported.MODULE: mutant.module, imported.FILE: str(path)}
        try:
            yield
        finally:
            self._planted = {}
            path.write_text(sound, encoding="utf-8")
            os.utime(path, (moment, moment))

    def test(self, tests: Sequence[str], *, seconds_max: float, first_only: bool, workers: int = 0) -> tuple[str, ...]:
        """Run tests and name those that failed; none if all passed.

        Args:
            tests: Folders, files or single tests.
            seconds_max: After that whatever still runs is killed.
            first_only: Whether to stop at the first that fails.
            workers: Processes that share the tests; 0: none but the one.

        Raises:
            BrokenRunError: No test was run, the run itself came to grief, or it was not the mutant that was tested.
        """
        command = [self._python, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", _ORDINARY]
        command += [*(["-x"] if first_only else []), *tests]
        command += ["-n", str(workers), "--dist", "worksteal"] if workers else []
        command += ["-p", imported.__name__] if self._planted else []
        code, said = _run(command, self.folder, self._planted, seconds_max)
        late = _TIMED_OUT.search(said)
        if late is not None:
            raise BrokenRunError(f"{late[1]} took too long, which a busy machine may do as well as a mutant")
        failed = tuple(dict.fromkeys(_RESULT.findall(said)))
        if code == FOUND_NOTHING or (code == FAILED and failed):
            return failed
        raise BrokenRunError(f"pytest ended with {code}: {said[-1500:]}")

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


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str], seconds_max: float) -> tuple[int, str]:
    """Run a program in a session of its own; return its exit code and what it said."""
    temporary = folder.with_name(f"{folder.name}t")  # short, since the paths of sockets are
    command = [*command, f"--basetemp={temporary}"]
    environment = {**os.environ, "COLUMNS": "1000", "PYTHONPATH": "", **variables}
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
