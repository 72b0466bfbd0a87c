"""`-o yaml` means the same to every reader, old ones included."""

import json

import pytest
import yaml  # YAML 1.1, as kubectl reads it; a dependency of kubernetes

from reconciler.report.data import Output, dump, to_yaml

TRICKY = [
    "no",
    "Yes",
    "on",
    "y",
    "2.10",
    "0o7",
    "010",
    "1:30",
    "1e3",
    "0x1f",
    "2026-01-01",
    "null",
    "~",
    "",
    "a: b",
    "-",
    "é",
]


@pytest.mark.parametrize("text", TRICKY)
def test_strings_stay_strings(text):
    assert yaml.safe_load(dump({"a": [text], text: 1}, Output.YAML)) == {"a": [text], text: 1}


def test_documents_keep_their_order_and_keys_theirs():
    documents = [{"b": 1, "a": {"d": None, "c": [True, 2.5]}}, {"x": "y"}]
    assert list(yaml.safe_load_all(to_yaml(documents))) == documents
    assert list(yaml.safe_load(to_yaml(documents[:1]))) == ["b", "a"]


def test_json_is_json_and_text_is_refused():
    assert json.loads(dump({"a": [1]}, Output.JSON)) == {"a": [1]}
    with pytest.raises(ValueError, match="verb itself"):
        dump({}, Output.TEXT)
