"""The documentation tells the truth where a machine can check it: links, commands, exit codes, reasons, states, metrics."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase

from reconciler.adapters.metrics import Metrics
from reconciler.commands import VERBS, errors, root, run
from schema.states import REASONS, NodeState

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("charts/**/*.md"))
)  # fmt: skip
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

BLOCK = re.compile(r"(?ms)^```(?P<language>\w*)\n(?P<text>.*?)^```")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
COMMAND = re.compile(r"(?:^|[\s(`])(?:\.venv/bin/)?ttfleet (?P<arguments>[^|;)#\n]*)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(name: str, *languages: str) -> Iterator[str]:
    return (match["text"] for match in BLOCK.finditer(read(name)) if match["language"] in languages)


def shell_lines(name: str) -> Iterator[str]:
    """What a reader types: the `$` lines of console blocks, all lines of sh blocks."""
    for block in blocks(name, "console"):
        yield from (line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))
    for block in blocks(name, "sh"):
        yield from block.splitlines()


def ttfleet_calls(line: str) -> Iterator[list[str]]:
    shown = line.partition(" #")[0].replace('"', "")
    return (shlex.split(match["arguments"]) for match in COMMAND.finditer(shown))


def parse(arguments: list[str]) -> None:
    """Let click parse a call without running it.

    Raises:
        click.UsageError: verb, option or value is not one that there is.
    """
    command: click.Command = root
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = command.make_context(command.name, arguments, parent=context)
        rest = [*context._protected_args, *context.args]
        if not rest and command.invoke_without_command:
            return
        _, following, arguments = command.resolve_command(context, rest)
        assert following
        command = following
    command.make_context(command.name, arguments, parent=context)


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below
            yield from leaves(below, (*path, name))
    else:
        yield path


def rows(text: str, columns: int) -> list[tuple[str, ...]]:
    """The rows of every table with so many columns, without heads."""
    found = (re.fullmatch(r"\| (.+) \|", line) for line in text.splitlines())
    cells = (tuple(match[1].split(" | ")) for match in found if match)
    return [row for row in cells if len(row) == columns and row[0].startswith("`")]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name):
    page = ROOT / name
    for match in LINK.finditer(BLOCK.sub("", read(name))):
        path, _, anchor = match["target"].partition("#")
        if re.match(r"\w+:", path):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), match["target"]
        assert not anchor or anchor in anchors(target), match["target"]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_is_shown_parses(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    for line in shell_lines(name):
        for arguments in ttfleet_calls(line):
            parse(arguments)


@pytest.mark.parametrize("name", NAMES)
def test_no_page_speaks_of_a_verb_that_there_is_not(name):
    for match in re.finditer(r"`ttfleet ([a-z|]+)", read(name)):
        assert set(match[1].split("|")) <= VERBS.keys(), match[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_that_is_named_is_there(name):
    targets = set(re.findall(r"(?m)^([a-z0-9]+):", read("Makefile")))
    assert set(re.findall(r"[`$] ?make ([a-z0-9]+)\b", read(name))) <= targets


def test_readme_shows_the_plan_that_is_printed(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "fleet", tmp_path / "fleet")
    monkeypatch.chdir(tmp_path)
    channels = tmp_path / "fleet" / "fleet.yaml"
    channels.write_text(channels.read_text().replace('stable: "2.7.0"', 'stable: "2.8.0"'))
    assert run(["plan", "--path", "fleet/", "--from-inventory"]) == 0
    assert "".join(capsys.readouterr().out.splitlines(keepends=True)[:5]) in read("README.md")


def test_the_page_on_repositories_shows_the_problem_that_is_printed(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "fleet", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    pool = tmp_path / "pools" / "train.yaml"
    pool.write_text(f"{pool.read_text()}    version: 2.10\n")
    assert run(["validate"]) == 1
    assert capsys.readouterr().out in read("docs/fleet-repository.md")


def test_no_page_has_a_hole_in_it():
    for name in NAMES:
        assert not re.search(r"@[A-Z]+@|TODO|FIXME|XXX", read(name)), name


def test_every_page_is_linked_from_the_readme():
    linked = {match["target"] for match in LINK.finditer(read("README.md"))}
    assert {name for name in NAMES if re.fullmatch(r"docs/[\w-]+\.md", name)} <= linked


def test_every_verb_is_mentioned():
    written = " ".join(re.findall(r"`([^`\n]+)`", "\n".join(map(read, NAMES))))
    shown = " ".join(line for name in NAMES for line in shell_lines(name))
    for path in leaves(root, ()):
        assert re.search(rf"(?<![\w-]){re.escape(path[-1])}(?![\w-])", f"{written} {shown}"), path


def test_every_exit_code_is_documented():
    there = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    written = [int(code) for code in re.findall(r"(?m)^\| (\d+) \|", read("docs/exit-codes.md"))]
    assert sorted(there) == written


def test_every_reason_is_documented_as_it_is():
    text = read("docs/reasons.md").split("## Reasons\n")[1]
    assert rows(text, 3) == [(f"`{reason}`", meaning, todo) for reason, (meaning, todo) in REASONS.items()]


def test_every_state_is_documented():
    text = read("docs/reasons.md").split("## States\n")[1].split("\n## ")[0]
    written = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows(text, 2)))
    assert sorted(written) == sorted(NodeState)


def test_every_metric_is_documented_as_it_is():
    there = []
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
            there.append((f"`{name}`", metric._type, labels, metric._documentation))
    written = [
        (name, kind, labels, re.sub(r"\[(\w+)\]\([^)]*\)", r"\1", meaning))
        for name, kind, labels, meaning in rows(read("docs/metrics.md"), 4)
    ]
    assert sorted(written) == sorted(there)
