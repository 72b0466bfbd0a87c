"""Whatever bytes a fleet repository holds: loading never crashes, and every problem has a place inside its file."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.adapters.source import File, blob_id
from reconciler.adapters.tree import load_tree
from reconciler.core.fleet.validate import check

DATA = Path(__file__).parents[1] / "data"
SEEDS = tuple(path.read_bytes() for path in sorted((DATA / "valid").rglob("*")) if path.suffix in {".yaml", ".yml", ".json"})  # fmt: skip
PIECES = st.sampled_from(
    [b"\t", b"\n", b"\r", b"\0", b"\xff", b"\xc3", b"[", b"{", b"]", b"}", b": ", b"- ", b"? ", b"&a ", b"*a", b"!!x ", b"<<: ",
     b"'", b'"', b"|\n", b">-\n", b"%YAML 1.1\n", b"---\n", b"...\n", b"#", b"2.10", b"~", b"on", b",", b"\xe2\x80\xa8", b"\xef\xbb\xbf",
     b"spec:", b"kind: NodePool\n", b"\\", b"@", b"`", "ü🌀".encode()]
)  # fmt: skip
QUICK = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class OneFile:
    def __init__(self, data):
        self.data = data

    def files(self, revision):
        del revision
        yield File(path="clusters/x/a.yaml", blob=blob_id(self.data), data=self.data)


@st.composite
def mutated(draw):
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data = data[:start] + draw(st.one_of(PIECES, st.binary(max_size=4), st.just(b""))) + data[end:]
    return data


def places_are_inside(data):
    tree = load_tree(OneFile(data), "r")
    problems = (*tree.problems, *check(tree))
    text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    lines = text.replace("\r\n", "\n").split("\n")
    for problem in problems:
        if problem.mark.file == ".":
            continue  # the repository as a whole
        assert 1 <= problem.mark.line <= len(lines), problem
        assert 1 <= problem.mark.column <= len(lines[problem.mark.line - 1]) + 1, problem
        assert problem.message.isprintable(), problem
    if not tree.documents:
        assert problems  # nothing to read is never an empty fleet


@QUICK
@given(mutated())
def test_mutations_of_valid_files(data):
    places_are_inside(data)


@QUICK
@given(st.lists(st.one_of(PIECES, st.binary(max_size=6), st.text(max_size=6).map(str.encode)), max_size=30).map(b"".join))  # fmt: skip
def test_bytes_of_any_kind(data):
    places_are_inside(data)
