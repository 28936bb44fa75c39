"""What a person should know of a plan before the start: what the reference advises against, and every compromise.

Source:
    Reference, "When Blue-Green is Not Feasible" and "Canary Selection Algorithm".
"""

from collections.abc import Sequence
from typing import Final

from orchestrator.planning.canary import Choice
from schemas.policy import Policy

BLUE_GREEN_DEVICES_MAX: Final = 500
BLUE_GREEN_BYTES_MAX: Final = 2_000_000_000
_NAMED_MAX: Final = 5


def strategy_warnings(policy: Policy, target_count: int, artifact_bytes: int | None) -> list[str]:
    """Say where the strategy is not advised; a rolling update is simpler and needs less disk, for a brief downtime.

    Args:
        policy: Its strategy is judged.
        target_count: Devices that will be updated.
        artifact_bytes: What the largest artifact takes on a device; None if it is not known.
    """
    if policy.strategy != "blue_green":
        return []
    findings = []
    if target_count > BLUE_GREEN_DEVICES_MAX:
        findings.append(f"blue_green is advised for at most {BLUE_GREEN_DEVICES_MAX} devices, these are {target_count}")
    if artifact_bytes is not None and artifact_bytes > BLUE_GREEN_BYTES_MAX:
        findings.append(
            f"blue_green is advised for at most {BLUE_GREEN_BYTES_MAX / 1e9:g} GB, "
            f"this release takes {artifact_bytes / 1e9:.2f} GB in each of two slots"
        )
    return [f"{finding}; where a brief downtime is acceptable, use strategy: rolling" for finding in findings]


def canary_warnings(choice: Choice, fit_count: int, uncovered: Sequence[str]) -> list[str]:
    """Say where the canary is less than it should be.

    Args:
        choice: The canary.
        fit_count: Targets that may be a canary.
        uncovered: Types and regions that no member stands for.
    """
    findings = []
    count = len(choice.reasons)
    if fit_count == 0:
        findings.append("no target may be a canary; the most representative of those that are online goes first")
    elif count < choice.wanted_count:
        findings.append(f"the canary has {count} devices instead of {choice.wanted_count}: no other target may be one")
    if uncovered:
        named = ", ".join(uncovered[:_NAMED_MAX])
        more = f" and {len(uncovered) - _NAMED_MAX} more" if len(uncovered) > _NAMED_MAX else ""
        remedy = f"; {choice.cover_count} canaries would cover more" if choice.cover_count > count else ""
        findings.append(f"no canary stands for {named}{more}{remedy}")
    return findings
