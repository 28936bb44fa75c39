"""A verdict's checks as a table: what was observed, what was normal, and how far the limit is."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from orchestrator.cli.phases import VERDICT_MARKS
from orchestrator.cli.quantities import limit_text, margin, margin_text, value_text
from orchestrator.cli.terminal import words
from schemas.messages import CheckResult


def check_table(checks: Sequence[CheckResult], *, is_wide: bool) -> Table:
    """Show each check with its numbers; ``is_wide`` adds the rule a limit comes from."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("CHECK", no_wrap=True)
    for column in ("OBSERVED", "BASELINE", "LIMIT", "MARGIN", "SAMPLES"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("VERDICT", no_wrap=True)
    for check in checks:
        mark, style = VERDICT_MARKS[check.verdict]
        limit = limit_text(check) if is_wide or check.limit is None else value_text(check, check.limit)
        left = margin(check)
        table.add_row(
            words(check.check),
            words(value_text(check, check.observed), "bold"),
            words(value_text(check, check.baseline)),
            words(limit),
            words(margin_text(check), "red" if left is not None and left < 0 else ""),
            f"{check.samples:,}".replace(",", " "),
            words(f"{mark} {check.verdict}", style),
        )
    return table


def reasons_of(checks: Sequence[CheckResult]) -> list[Text]:
    """Say of each check that did not pass why not."""
    return [
        words(f"  {VERDICT_MARKS[check.verdict][0]} {check.check}: {check.why}", VERDICT_MARKS[check.verdict][1])
        for check in checks
        if check.verdict != "pass"
    ]
