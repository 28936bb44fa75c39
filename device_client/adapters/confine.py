"""A program that takes limits and another user upon itself and then becomes an application; imports nothing but Python.

What a process does between fork and exec must not be Python in a program with threads, so it is done after one exec.
"""

import json
import os
import pwd
import resource
import sys
from pathlib import Path

REFUSED = 126


def confine(cgroup: str | None, user: str | None, limits: dict[str, int]) -> None:
    """Give up what the application must not have; the user last, since the rest may need him.

    Raises:
        OSError: It cannot be given up.
        KeyError: There is no such user.
    """
    if cgroup is not None:
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))
    if user is not None:
        entry = pwd.getpwnam(user)
        if os.geteuid() != entry.pw_uid:
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)


def main() -> None:
    """Become the command that is named after what to give up, as JSON."""
    terms, command = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        confine(terms["cgroup"], terms["user"], terms["limits"])
        os.execvp(command[0], command)  # noqa: S606 - the command is signed, and no shell is involved
    except (OSError, KeyError, ValueError) as error:
        print(f"tidegate: {command[0]} is not started: {error}", file=sys.stderr)  # noqa: T201 - to the application's log
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
