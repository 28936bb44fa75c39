"""mosquitto's configuration for one place: that of ``broker-config`` with paths, ports and what a version wants."""

import re
from collections.abc import Iterator
from typing import Final, Literal

from orchestrator.adapters.access import find_broker_config

Version = Literal["2.0", "2.1"]

_HERE: Final = "/mosquitto/config/"
"""Where the files in ``broker-config`` say that everything is."""
_LISTENERS: Final = "# ---- Listeners"
_BROWSERS: Final = "# Browsers"
_SHOWN: Final = "# What the broker shows to browsers"
_PLUGINS: Final = {"password_file": "mosquitto_password_file.so", "acl_file": "mosquitto_acl_file.so"}


def mosquitto_conf(
    place: str,
    *,
    version: Version,
    is_tls: bool,
    device_port: int,
    tools_port: int,
    browser_port: int | None = None,
    browser_is_tls: bool = True,
    data: str | None = None,
    plugins: str = "/usr/lib",
) -> str:
    """Return the configuration.

    Args:
        place: The folder with the broker's files, as the broker finds it.
        version: Of mosquitto; 2.1 reads passwords and access list by plugins.
        is_tls: Listen with certificates, and without passwords.
        device_port: Where devices connect.
        tools_port: Where everybody else does.
        browser_port: With certificates, where browsers do, with passwords; None: nowhere.
        browser_is_tls: Whether that one is encrypted.
        data: Where the broker keeps what it must remember; None: in ``data`` of that folder.
        plugins: The folder of those plugins.
    """
    text = (find_broker_config() / "mosquitto.conf").read_text()
    if is_tls:
        listeners, browsers, more = (find_broker_config() / "listeners-tls.conf").read_text().partition(_BROWSERS)
        text = text.partition(_LISTENERS)[0] + listeners
        if browser_port is not None:
            text += browsers + (more if browser_is_tls else more.partition(_SHOWN)[0])
    text = text.partition("# Production:")[0].rstrip() + "\n"
    ports = {"1883": device_port, "8883": device_port, "1884": tools_port, "8884": tools_port}
    if browser_port is not None:
        ports["9001"] = browser_port
    lines = (
        f"listener {ports.get(line.removeprefix('listener '), line.removeprefix('listener '))}"
        if line.startswith("listener ")
        else line
        for line in _settings(text, version, plugins, has_passwords=not is_tls or browser_port is not None)
    )
    body = "\n".join(lines).replace(_HERE, f"{place}/").replace("/mosquitto/data/", f"{data or f'{place}/data'}/")
    return f"# Written by tidegate broker-config, for mosquitto {version}.\n\n{body}\n"


def _settings(text: str, version: Version, plugins: str, *, has_passwords: bool) -> Iterator[str]:
    """Yield the lines after the file's own heading, without what is said about the other version."""
    comments: list[str] = []
    for line in text.partition("\n\n")[2].splitlines():
        if line.startswith("#"):
            if not line.startswith("#   "):  # what 2.1 wants instead
                comments.append(line)
            continue
        setting, _, value = line.partition(" ")
        if setting != "password_file" or has_passwords:
            yield from map(_without_instead, comments)
            if version == "2.1" and setting in _PLUGINS:
                yield f"global_plugin {plugins}/{_PLUGINS[setting]}"
                yield f"plugin_opt_{setting} {value}"
            else:
                yield line
        comments = []
    yield from comments


def _without_instead(comment: str) -> str:
    return re.sub(r" \[2\.1\] deprecated, gone in 3\.0\. Instead.*", "", comment)
