"""The proof on its small configurations; `make prove` runs them all."""

import pytest

from reconciler.simulation.prove import CASES, REMOVALS, caught, prove
from reconciler.simulation.removed import REMOVED


@pytest.mark.parametrize("case", [case for case in CASES if case.quick], ids=lambda case: case.name)
def test_every_state_is_safe_and_can_be_released(case):
    found = prove(case)
    assert found.violation == "", found.trace
    assert found.complete
    assert found.states > 10_000


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: f"{removal.guard}: {removal.breaks}")
def test_a_removed_guard_is_caught(removal):
    found = caught(removal)
    assert found.violation.startswith(removal.breaks), found.violation


def test_every_guard_is_removed_once():
    assert {removal.guard for removal in REMOVALS} == set(REMOVED)
