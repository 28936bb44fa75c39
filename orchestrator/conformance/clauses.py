"""All clauses in the order in which they are shown."""

from typing import Final

from orchestrator.conformance import obedience, presence
from orchestrator.conformance.judgement import Clause, Judgement
from orchestrator.conformance.transcript import Transcript

CLAUSES: Final = (*presence.CLAUSES, *obedience.CLAUSES)


def judge(transcript: Transcript) -> list[tuple[Clause, Judgement]]:
    """Return what is found about each clause."""
    return [(clause, clause.judge(transcript)) for clause in CLAUSES]
