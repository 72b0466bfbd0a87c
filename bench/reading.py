"""From a repository's bytes to a checked tree: what a fetch costs when everything, one file or nothing is new."""

from collections.abc import Iterator

from fleets import commits, put_pool
from pairs import Pair, Side
from ruamel.yaml import YAML
from ruamel.yaml.cyaml import CParser

from reconciler.sync.repository import Repository


def pairs(size: int) -> Iterator[Pair]:
    files = max(5, size * 3 // 10)
    source = commits(pools=files - 4)
    repository = Repository(source=source)
    turn = iter(range(1_000_000))

    def cold() -> None:
        _fetched(Repository(source=source))

    def change() -> None:
        put_pool(source, 0, note=f"# {next(turn)}\n")

    def again() -> None:
        _fetched(repository)

    again()
    yield Pair(
        name="fetch",
        a=Side(label=f"{files} files, all new", run=cold),
        b=Side(label="one file changed", run=again, before=change),
    )
    yield Pair(
        name="fetch-idle",
        a=Side(label=f"one file of {files} changed", run=again, before=change),
        b=Side(label="nothing changed", run=again),
    )
    texts = [file.data for file in source.files("")]
    yield Pair(
        name="yaml",
        a=Side(label=f"pure parser, {files} files", run=lambda: [_events_pure(text) for text in texts]),
        b=Side(label="C parser", run=lambda: [_events(text) for text in texts]),
    )


def _fetched(repository: Repository) -> None:
    fetched = repository.fetch("")
    assert fetched.tree is not None
    assert not fetched.tree.problems, fetched.tree.problems[0]


def _events_pure(text: bytes) -> int:
    return sum(1 for _ in YAML(typ="safe", pure=True).parse(text))


def _events(text: bytes) -> int:
    parser = CParser(text)
    count = 0
    while parser.get_event() is not None:
        count += 1
    return count
