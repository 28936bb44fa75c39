"""Policy files: YAML text to a ``Policy``, with file, line, column, a caret and a suggestion for whatever is wrong."""

from typing import Final

from schemas.errors import PolicyError
from schemas.policy import Policy
from schemas.yaml_text import YamlTextError, parse_yaml

_TEXT_LENGTH_MAX: Final = 64 * 1024
_EXPECTED: Final = "a mapping with a block such as 'rollout:' or 'rolling_update:'"


def parse_policy(text: str, *, source: str = "policy") -> Policy:
    """Parse a policy file.

    Args:
        text: YAML 1.2, at most 64 KiB.
        source: File name for messages.

    Raises:
        PolicyError: It is empty, does not parse or breaks a rule; the author's fault. The message names file, line and
            column, shows the line with a caret, and suggests the nearest name for an unknown one.
    """
    try:
        return parse_yaml(text, Policy, source=source, expected=_EXPECTED, length_max=_TEXT_LENGTH_MAX)
    except YamlTextError as error:
        raise PolicyError(str(error)) from error
