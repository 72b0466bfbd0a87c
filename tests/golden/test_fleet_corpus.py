"""tests/data/{valid,invalid}/<case>/: a fleet repository and, in expected.txt, every problem that it has.

A new case is a new directory. Without expected.txt the test writes one and fails: read it, and keep it if it is right. The name
of an invalid case begins with the code that it is about.
"""

from pathlib import Path

import click
import pytest

from reconciler.commands.validate import examine
from reconciler.core.fleet.documents import Severity
from reconciler.core.fleet.problems import Code
from reconciler.report.problems import problems_text

DATA = Path(__file__).parents[1] / "data"
TODAY = "2026-11-24"


def cases(kind):
    return [pytest.param(path, id=path.name) for path in sorted((DATA / kind).iterdir()) if path.is_dir()]


def printed(case):
    """What `ttfleet validate` prints in the case's directory, and how bad it is."""
    checked = examine(case, None, TODAY)
    text = click.unstyle(problems_text(checked.problems, checked.line))
    return checked.problems, text.replace(f"{case.as_posix()}/", "").replace(case.as_posix(), ".")


def compare(case, text):
    golden = case / "expected.txt"
    if not golden.exists():
        golden.write_text(text, encoding="utf-8")
        pytest.fail(f"{golden} is written: read it, and run again")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", cases("invalid"))
def test_an_invalid_fleet_shows_exactly_these_problems(case):
    problems, text = printed(case)
    code = case.name.split("-")[0]
    assert code in {problem.code for problem in problems} or "-not-reported-" in case.name
    compare(case, text)
    assert any(problem.severity is Severity.ERROR for problem in problems)


@pytest.mark.parametrize("case", cases("valid"))
def test_a_valid_fleet_has_no_error(case):
    problems, text = printed(case)
    assert not [str(problem) for problem in problems if problem.severity is Severity.ERROR]
    if problems:
        compare(case, text)


def test_every_code_has_a_case():
    """But for two that a unit test makes: a refused source, and a file with too many problems."""
    shown = {path.name.split("-")[0] for kind in ("valid", "invalid") for path in (DATA / kind).iterdir()}
    needing_a_plan = {Code.NAME_CLASH}
    assert set(Code) - shown - needing_a_plan == {Code.REFUSED, Code.TOO_MANY}


def test_every_code_is_documented_and_no_other():
    text = (DATA.parents[1] / "docs" / "problem-codes.md").read_text(encoding="utf-8")
    documented = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `TTF")]
    assert documented == sorted(Code)
