"""All mutants of ``make mutants``."""

from typing import Final

from tests.mutants.in_decisions import IN_DECISIONS
from tests.mutants.in_devices_hands import IN_DEVICES_HANDS
from tests.mutants.in_evidence import IN_EVIDENCE
from tests.mutants.in_the_shell import IN_THE_SHELL
from tests.mutants.mutant import Mutant
from tests.mutants.on_devices import ON_DEVICES

MUTANTS: Final[tuple[Mutant, ...]] = (*ON_DEVICES, *IN_DEVICES_HANDS, *IN_DECISIONS, *IN_EVIDENCE, *IN_THE_SHELL)
