"""Every example is a valid fleet whose README shows what really is printed; the hooks that we ship name real commands."""

import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from reconciler.commands import VERBS, run
from reconciler.sandbox.hosts.source import create_source_repository

ROOT = Path(__file__).parents[2]
EXAMPLES = [pytest.param(path, id=path.name) for path in sorted((ROOT / "examples").glob("[0-9]*"))]
_COMMAND = re.compile(r"(?m)^\$ ttfleet (?P<arguments>.*)\n(?P<output>(?:(?!\$ |```).*\n)*)")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_readme_shows_what_is_printed(example, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"(?s)```console\n(.*?)```", (example / "README.md").read_text(encoding="utf-8"))
    commands = [match for block in blocks for match in _COMMAND.finditer(block)]
    assert commands
    for match in commands:
        assert run(shlex.split(match["arguments"])) == 0, match["arguments"]
        printed = capsys.readouterr().out
        assert printed
        assert not match["output"] or printed == match["output"]


def test_hooks_call_verbs_that_there_are():
    (hook,) = YAML(typ="safe", pure=True).load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"].split()[0] == "ttfleet"
    assert hook["entry"].split()[1] in VERBS
    config = YAML(typ="safe", pure=True).load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (ours,) = config["repos"]
    assert [entry["id"] for entry in ours["hooks"]] == ["ruff-check", "ruff-format", "mypy", "import-linter", "ttfleet-validate"]  # fmt: skip


def test_our_releases_pin_the_stub_driver_as_it_is(tmp_path):
    """Whoever edits the stub's sources changes its commit ids: then the fleets that pin them say so here."""
    commits = create_source_repository(tmp_path / "kmd")
    read = YAML(typ="safe", pure=True)
    files = (*(ROOT / "fleet").rglob("*.yaml"), *(ROOT / "examples").rglob("*.yaml"))
    documents = [one for path in files for one in read.load_all(path.read_text(encoding="utf-8"))]
    releases = [document for document in documents if document["kind"] == "Release"]
    assert len(releases) >= 3
    for release in releases:
        assert release["spec"]["commit"] == commits[release["metadata"]["name"]]
