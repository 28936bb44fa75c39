"""Errors by whose fault they are; every error of the project descends from ``FleetError``.

Names end in ``Error``. A message names the place and, where there is one, the remedy.
"""


class FleetError(Exception):
    """Root of the project's errors; caught only at a process's edge."""


class DecodeError(FleetError):
    """The peer's fault: a payload that is not what its topic promises. Count it and drop it.

    Attributes:
        field: Dotted path of the field that is wrong; ``payload`` for the whole.
    """

    def __init__(self, message: str, field: str = "payload") -> None:
        super().__init__(message)
        self.field = field


class TopicError(FleetError):
    """The caller's fault: an id or a topic that is not allowed on the bus."""


class SignatureError(FleetError):
    """The sender's fault: an envelope that no trusted key has signed. Count it, change nothing."""


class TrustError(FleetError):
    """The sender's fault: a trust root that does not follow from the one before. Keep that one.

    Attributes:
        code: ``not_signed_by_old``, ``not_signed_by_own``, ``wrong_version``, ``malformed`` or ``gap``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class PolicyError(FleetError):
    """The author's fault: a policy that does not parse or contradicts itself.

    The text holds file, line, column and a caret where the place is known.
    """
