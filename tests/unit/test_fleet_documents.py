"""YAML events to documents: what is read, what is refused, where, and at which cost."""

import json

import pytest

from reconciler.adapters.scalars import plain_value
from reconciler.adapters.source import File, blob_id
from reconciler.adapters.tree import MAX_PROBLEMS, Readings, cluster_of, load_tree, read_file
from reconciler.adapters.yaml import parse
from reconciler.core.fleet.documents import Mark
from reconciler.core.fleet.problems import Code

API = "apiVersion: fleet.tenstorrent.com/v1alpha1\n"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RELEASE = f'{API}kind: Release\nmetadata: {{name: "2.8.0"}}\nspec: {{commit: {COMMIT}}}\n'
POOL = f'{API}kind: NodePool\nmetadata: {{name: train}}\nspec:\n  nodes: [a, b]\n  kmd: {{version: "2.8.0", mode: container}}\n'


class Files:
    """A source in memory: path to text or bytes."""

    def __init__(self, **texts):
        self.texts = {path.replace("__", "/"): text for path, text in texts.items()}

    def files(self, revision):
        del revision
        for path, text in sorted(self.texts.items()):
            data = text if isinstance(text, bytes) else text.encode()
            yield File(path=f"{path}.yaml", blob=blob_id(data), data=data)


def codes(problems):
    return [problem.code for problem in problems]


def test_every_value_knows_its_place():
    (document,) = load_tree(Files(a=POOL), "r").documents
    assert document.mark_at("spec", "kmd", "version") == Mark(file="a.yaml", line=6, column=9)
    assert document.mark_at("spec", "nodes", 1) == Mark(file="a.yaml", line=5, column=14)
    assert document.mark_at("spec", "not", "there") == document.mark_at("spec")
    assert document.data["spec"] == {"nodes": ["a", "b"], "kmd": {"version": "2.8.0", "mode": "container"}}


def test_columns_count_characters_not_bytes():
    (problem,) = load_tree(
        Files(a=f"{API}kind: Node\nmetadata: {{name: a}}\nspec: {{reason: Lüfter 🌀, hold: 1}}\n"), "r"
    ).problems
    assert (problem.mark.line, problem.mark.column) == (4, 32)


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("2.8.0", "2.8.0"), ("2.10", 2.1), ("1e1", 10.0), ("on", "on"), ("No", "No"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("12", 12), ("-0", 0), ("012", 12.0), ("+1", 1.0), ("1_000", 1000.0),
        ("0x1f", 0.5), (".5", 0.5), ("12:30:45", "12:30:45"), ("2026-12-15", "2026-12-15"), ("8%", "8%"),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_yaml_1_2_and_doubtful_numbers_are_no_texts(token, value):
    assert (type(plain_value(token)), plain_value(token)) == (type(value), value)


def test_json_is_read_by_the_same_reader():
    text = json.dumps(
        {
            "apiVersion": "fleet.tenstorrent.com/v1alpha1",
            "kind": "Node",
            "metadata": {"name": "a"},
            "spec": {"hold": None},
        },
        indent="\t",
    )
    (problem,) = load_tree(Files(a=text), "r").problems
    assert (problem.code, problem.mark.line) == (Code.NULL, 8)


@pytest.mark.parametrize("text", ["[", "{", "- ", "? ", "[{a: ", "{? ", "- - ? "])
def test_a_hundred_thousand_levels_are_refused_after_a_few(text):
    parsed = parse("a.yaml", text.encode() * 100_000)
    assert parsed.problems[-1].code == Code.TOO_DEEP
    assert len(parsed.problems) < 30
    assert not parsed.complete


def test_documents_before_a_syntax_error_are_still_judged():
    tree = load_tree(Files(a=f"{RELEASE}---\n{POOL.replace('mode', 'mod')}---\na: [\n"), "r")
    assert codes(tree.problems) == [Code.MISSING_FIELD, Code.UNKNOWN_FIELD, Code.SYNTAX]
    assert [document.kind for document in tree.documents] == ["Release"]
    assert not tree.complete


def test_an_empty_directory_is_an_error_and_no_empty_fleet():
    assert codes(load_tree(Files(), "r").problems) == [Code.EMPTY]
    assert codes(load_tree(Files(a="# soon\n"), "r").problems) == [Code.EMPTY]


def test_a_file_says_how_many_problems_it_has_beyond_the_first():
    text = f"{API}kind: Node\nmetadata: {{name: a}}\nspec:\n" + "".join(
        f"  f{n}: 1\n" for n in range(MAX_PROBLEMS + 7)
    )
    problems = load_tree(Files(a=text), "r").problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert "7 more problems" in problems[-1].message


def test_only_changed_files_are_read_again(monkeypatch):
    read = []
    monkeypatch.setattr(
        "reconciler.adapters.tree.read_file", lambda file: read.append(file.path) or read_file(file)
    )
    readings = Readings()
    files = Files(a=POOL, b=RELEASE)
    first = load_tree(files, "1", readings)
    files.texts["b"] = RELEASE.replace("2.8.0", "2.9.0")
    second = load_tree(files, "2", readings)
    assert read == ["a.yaml", "b.yaml", "b.yaml"]
    assert first.documents[0] is second.documents[0]
    files.texts.pop("a")
    load_tree(files, "3", readings)
    assert len(readings.known) == 1


def test_an_unquoted_version_is_quoted_as_typed_beside_the_known_releases():
    (problem,) = (p for p in load_tree(Files(a=POOL.replace('"2.8.0"', "2.10"), b=RELEASE), "r").problems)
    assert problem.code == Code.NO_VERSION_TEXT
    assert "2.10 without quotes" in problem.message
    assert "2.8.0" in problem.hint
    assert "2.10.0" not in str(problem)


@pytest.mark.parametrize(
    ("path", "cluster"),
    [("clusters/eu1/cluster.yaml", "eu1"), ("clusters/eu1/nodes/a.yaml", "eu1"), ("clusters/a.yaml", ""), ("pools/clusters/eu1/a.yaml", ""), ("a.yaml", "")],
)  # fmt: skip
def test_the_path_says_only_which_cluster_a_document_belongs_to(path, cluster):
    assert cluster_of(path) == cluster
