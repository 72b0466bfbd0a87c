"""docs/reconciler.md names every reason and guard that there is, and no other."""

import re
from pathlib import Path

from reconciler.core.fleet.waves import RESERVED
from reconciler.core.rollout.guards import Guard
from schema.sync import SyncReason

DOC = (Path(__file__).parents[2] / "docs" / "reconciler.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> set[str]:
    section = DOC.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_reason_of_a_fleet_sync_is_documented():
    assert first_cells("Reasons of a FleetSync") == {str(reason) for reason in SyncReason}


def test_every_guard_is_documented():
    assert first_cells("Guards") == {str(guard) for guard in Guard}


def test_every_wave_of_our_own_is_documented():
    assert first_cells("Waves") == RESERVED
