"""`render` and `plan` of `fleet/`, byte for byte. `UPDATE_GOLDEN=1` writes them anew; read the difference."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reconciler.commands import run

FLEET = Path(__file__).parents[2] / "fleet"
GOLDEN = Path(__file__).parent / "fleet"


def expect(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def printed(capsys, *arguments: object, code: int = 0) -> str:
    assert run([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


@pytest.fixture
def repository(tmp_path):
    """`fleet/` in a repository: one commit as it is, then channel stable at 2.8.0 in the work tree."""
    path = tmp_path / "fleet"
    shutil.copytree(FLEET, path)
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(path), *command], check=True, env=env)
    bump(path, "2.7.0", "2.8.0")
    return path


def bump(path: Path, old: str, new: str) -> None:
    file = path / "fleet.yaml"
    text = file.read_text(encoding="utf-8")
    assert f'stable: "{old}"' in text
    file.write_text(text.replace(f'stable: "{old}"', f'stable: "{new}"'), encoding="utf-8")


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_render_prints_the_same_bytes_twice(capsys, output):
    first = printed(capsys, "render", "--path", FLEET, "-o", output)
    assert first == printed(capsys, "render", "--path", FLEET, "-o", output)
    expect(f"render.{output}", first)


def test_the_plan_of_the_fleet_as_it_is_has_no_changes(capsys):
    first = printed(capsys, "plan", "--path", FLEET, "--from-inventory", "--exit-code")
    assert first == printed(capsys, "plan", "--path", FLEET, "--from-inventory")
    expect("plan.txt", first)


@pytest.mark.parametrize("output", ["text", "json", "yaml"])
def test_a_bump_of_the_channel_is_planned_in_waves(capsys, repository, output):
    arguments = ["plan", "--path", repository, "--from-inventory", "-o", output]
    first = printed(capsys, *arguments)
    assert first == printed(capsys, *arguments)
    expect(f"bump.{output}", first)
    printed(capsys, *arguments, "--exit-code", code=1)


def test_against_a_commit_a_revert_is_one_wave(capsys, repository):
    commit = [
        "git",
        "-C",
        str(repository),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "commit",
        "-qam",
        "b",
    ]
    subprocess.run(commit, check=True)
    bump(repository, "2.8.0", "2.7.0")
    expect("revert.txt", printed(capsys, "plan", "--path", repository, "--against", "HEAD"))


def test_a_plan_against_a_commit_that_is_not_there_is_a_usage_error(capsys, repository):
    printed(capsys, "plan", "--path", repository, "--against", "nosuch", code=2)


def test_a_plan_that_a_guard_refuses_exits_3(capsys, repository):
    pool = repository / "pools" / "train.yaml"
    pool.write_text(
        pool.read_text(encoding="utf-8").replace("acme.io/pool: train", "acme.io/pool: other"),
        encoding="utf-8",
    )
    text = printed(capsys, "plan", "--path", repository, "--against", "HEAD", code=3)
    assert "REFUSED NodeDropped" in text


def test_a_faulty_fleet_is_neither_rendered_nor_planned(capsys, repository):
    bump(repository, "2.8.0", "2.10")
    for verb in ("render", "plan"):
        assert printed(capsys, verb, "--path", repository, code=1) == ""


def test_of_several_clusters_one_has_to_be_named(capsys, repository):
    shutil.copytree(repository / "clusters" / "demo", repository / "clusters" / "other")
    for file in (repository / "clusters" / "other").iterdir():
        file.write_text(
            file.read_text(encoding="utf-8")
            .replace("name: demo", "name: other")
            .replace('"name": "demo"', '"name": "other"'),
            encoding="utf-8",
        )
    printed(capsys, "render", "--path", repository, code=2)
    printed(capsys, "render", "--path", repository, "--cluster", "nosuch", code=2)
    assert "train-canary" in printed(capsys, "render", "--path", repository, "--cluster", "other")
