"""`ttfleet validate`: exit codes, outputs, and what a path may be."""

import json
import os
from pathlib import Path

import pytest

from reconciler.adapters.source import MAX_FILE_BYTES
from reconciler.commands import run
from reconciler.report.problems import WIDTH, excerpt

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
WARNING = str(DATA / "valid/TTF213-blocked-release-warns")
ERROR = str(DATA / "invalid/TTF106-unquoted-version")


@pytest.mark.parametrize(
    "path", ["fleet", *(f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("[0-9]*")))]
)
def test_the_fleets_that_we_ship_are_valid(path, capsys):
    assert run(["validate", "--strict", str(ROOT / path)]) == 0
    assert capsys.readouterr().out.startswith("ok: ")


def test_errors_exit_1_with_place_line_caret_hint_and_a_count(capsys, monkeypatch):
    monkeypatch.chdir(DATA / "invalid")
    assert run(["validate", "TTF106-unquoted-version"]) == 1
    out = capsys.readouterr().out
    assert (
        "TTF106-unquoted-version/fleet.yaml:6:18: error TTF106: spec.kmd.version: 2.10 without quotes" in out
    )
    assert "      kmd: {version: 2.10, mode: container}\n                     ^\n    hint:" in out
    assert out.endswith("5 errors, 0 warnings in 5 documents\n")


def test_warnings_fail_only_when_they_are_told_to(capsys):
    assert run(["validate", WARNING]) == 0
    assert run(["validate", "--strict", WARNING]) == 1
    assert "0 errors, 1 warning in 3 documents" in capsys.readouterr().out


def test_several_fleets_are_checked_apart(capsys):
    assert run(["validate", str(ROOT / "fleet"), WARNING, ERROR]) == 1
    assert "5 errors, 1 warning" in capsys.readouterr().out


def test_json_and_yaml_carry_the_same(capsys):
    from ruamel.yaml import YAML

    assert run(["validate", "-o", "json", ERROR]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["errors"] == len(data["problems"]) == 5
    assert data["problems"][0].keys() == {"file", "line", "column", "severity", "code", "message", "hint"}
    run(["validate", "-o", "yaml", ERROR])
    assert YAML(typ="safe", pure=True).load(capsys.readouterr().out) == data


def test_github_annotations_escape_what_github_reads(capsys, tmp_path):
    (tmp_path / "a,b.yaml").write_text('kind: "50%"\n', encoding="utf-8")
    assert run(["validate", "-o", "github", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert (
        f"::error file={tmp_path}/a%2Cb.yaml,line=1,col=7,title=TTF015::unknown kind '50%25'%0Aallowed" in out
    )


def test_colours_only_where_they_are_wanted(capsys):
    run(["validate", ERROR])
    assert "\x1b[" not in capsys.readouterr().out
    run(["validate", "--color", "always", ERROR])
    assert "\x1b[" in capsys.readouterr().out


def test_a_single_file_is_a_fleet(capsys):
    assert run(["validate", str(DATA / "valid/one-file/fleet.yaml")]) == 0
    assert capsys.readouterr().out == "ok: 2 documents, no problems\n"


@pytest.mark.parametrize("single", [True, False])
def test_a_file_that_is_too_large_is_refused(single, tmp_path, capsys):
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert run(["validate", str(large if single else tmp_path)]) == 1
    assert "TTF001: large.yaml: 1048577 bytes, more than 1048576" in capsys.readouterr().out


def test_a_symbolic_link_is_refused(tmp_path, capsys):
    (tmp_path / "a.yaml").symlink_to("/etc/hostname")
    assert run(["validate", str(tmp_path)]) == 1
    assert "TTF001: a.yaml: symbolic links are not followed" in capsys.readouterr().out


def test_a_pipe_is_refused_and_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "a.yaml")
    assert run(["validate", str(tmp_path)]) == 1
    assert "TTF001: a.yaml: neither a file nor a directory" in capsys.readouterr().out


def test_a_suffix_in_capitals_is_not_overlooked(tmp_path, capsys):
    (tmp_path / "Fleet.YAML").write_text("kind: Fleet\n", encoding="utf-8")
    assert run(["validate", str(tmp_path)]) == 1
    assert "Fleet.YAML:1:1: error TTF102" in capsys.readouterr().out


def test_an_empty_directory_is_an_error(tmp_path, capsys):
    assert run(["validate", str(tmp_path)]) == 1
    assert "TTF013" in capsys.readouterr().out


def test_what_is_not_there_is_a_usage_error(capsys):
    assert run(["validate", "no/such/directory"]) == 2
    assert "no/such/directory" in capsys.readouterr().err


def test_one_cluster_can_be_looked_at_alone(capsys):
    case = str(DATA / "invalid/TTF402-no-release-in-one-cluster")
    assert run(["validate", "--cluster", "us1", case]) == 0
    assert run(["validate", "--cluster", "eu1", case]) == 1
    assert run(["validate", "--cluster", "mars", case]) == 2
    assert "there are: eu1, us1" in capsys.readouterr().err


def test_the_shown_part_of_a_line_is_bounded_and_harmless():
    shown, column = excerpt("x" * 500 + "\x1b[31m!" + "y" * 500, 501)
    assert len(shown) <= WIDTH + 2
    assert shown.isprintable()
    assert shown[column] == " "
    assert excerpt("a: 日本 !", 7) == ("a: 日本 !", 8)  # two cells for each wide character
