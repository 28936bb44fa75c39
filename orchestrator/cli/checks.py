"""A verdict's checks as a table: what was observed, what was normal, and how far the limit is."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from orchestrator.cli.phases import VERDICT_MARKS
from orchestrator.cli.quantities import limit_text, margin, margin_text, value_text
from orchestrator.cli.terminal import words
from schemas.documents import CheckResult

_COLUMNS: Final = ("CHECK", "OBSERVED", "BASELINE", "LIMIT", "MARGIN", "SAMPLES", "VERDICT")
_LEFT_OUT: Final = frozenset({"BASELINE", "MARGIN", "SAMPLES"})
_WIDE: Final = 100
_VERY_NARROW: Final = 80


def check_table(checks: Sequence[CheckResult], *, width: int) -> Table:
    """Show each check with its numbers; with room, also the rule a limit comes from; without, only what decided."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = [name for name in _COLUMNS if width >= _VERY_NARROW or name not in _LEFT_OUT]
    for name in columns:
        table.add_column(name, justify="left" if name in {"CHECK", "VERDICT"} else "right", no_wrap=True)
    for check in checks:
        mark, style = VERDICT_MARKS[check.verdict]
        left = margin(check)
        cells = {
            "CHECK": words(check.check),
            "OBSERVED": words(value_text(check, check.observed), "bold"),
            "BASELINE": words(value_text(check, check.baseline)),
            "LIMIT": words(
                limit_text(check) if width >= _WIDE or check.limit is None else value_text(check, check.limit)
            ),
            "MARGIN": words(margin_text(check), "red" if left is not None and left < 0 else ""),
            "SAMPLES": words(f"{check.samples:,}".replace(",", " ")),
            "VERDICT": words(f"{mark} {verdict_text(check)}", style),
        }
        table.add_row(*(cells[name] for name in columns))
    return table


def verdict_text(check: CheckResult) -> str:
    """Write a check's verdict, and whether it is only shown."""
    return f"{check.verdict} (dry run)" if check.dry_run else check.verdict


def reasons_of(checks: Sequence[CheckResult]) -> list[Text]:
    """Say of each check that did not pass why not."""
    return [
        words(
            f"  {VERDICT_MARKS[check.verdict][0]} {check.check}{' (dry run)' * check.dry_run}: {check.why}",
            VERDICT_MARKS[check.verdict][1],
        )
        for check in checks
        if check.verdict != "pass"
    ]
