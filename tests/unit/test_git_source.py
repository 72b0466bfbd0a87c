"""Sources against real git: a daemon on loopback, a cache that breaks, a remote that vanishes, trees that are refused."""

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from reconciler.adapters.git import CommitSource, GitSource, ObjectStore, run_git
from reconciler.adapters.source import DirectorySource, SourceError, SourceReason

IDENTITY = {
    "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.org", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
}  # fmt: skip


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    env = {"PATH": os.environ["PATH"], **IDENTITY}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()


def commit(repository: Path, files: dict[str, str], message: str = "change") -> str:
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", message)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "served" / "fleet"
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    commit(path, {"fleet.yaml": "kind: Fleet\n", "clusters/a/nodes.json": "{}", "README.md": "hello"})
    return path


@contextlib.contextmanager
def daemon(base: Path):
    """`git daemon` on a free loopback port; yields its url."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "git", "daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={port}",
        f"--base-path={base}", str(base),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=10)


@pytest.fixture
def url(repository: Path):
    with daemon(repository.parent) as base:
        yield f"{base}/fleet"


def names(files) -> list[str]:
    return [file.path for file in files]


def test_documents_of_a_commit_come_sorted_and_without_other_files(url, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    files = source.files(source.revision())
    assert names(files) == ["clusters/a/nodes.json", "fleet.yaml"]
    assert files[1].data == b"kind: Fleet\n"


def test_the_directory_on_disk_yields_the_same_files_and_blob_ids_as_the_commit(url, repository, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    directory = DirectorySource(repository)
    assert directory.files(directory.revision()) == source.files(source.revision())


def test_a_new_commit_is_fetched_and_the_old_one_stays_readable(url, repository, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    first = source.revision()
    second = commit(repository, {"pool.yaml": "kind: NodePool\n"})
    assert source.revision() == second
    assert names(source.files(first)) == ["clusters/a/nodes.json", "fleet.yaml"]
    assert source.history(second, 50) == (first,)
    assert source.descends(second, first)
    assert not source.descends(first, second)


def test_a_tag_that_is_called_like_the_branch_is_not_followed(url, repository, tmp_path):
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-qb", "unreviewed")
    commit(repository, {"fleet.yaml": "kind: Fleet # mine\n"})
    git(repository, "tag", "main")
    assert GitSource(url=url, cache=tmp_path / "cache").revision() == head


@pytest.mark.parametrize("ref", ["v1", "refs/tags/v1"])
def test_a_tag_is_followed_by_its_name(url, repository, tmp_path, ref):
    git(repository, "tag", "-am", "one", "v1")
    source = GitSource(url=url, ref=ref, cache=tmp_path / "cache")
    assert source.revision() == git(repository, "rev-parse", "HEAD")


def test_two_refs_of_one_remote_do_not_meet_in_the_cache(url, repository, tmp_path, monkeypatch):
    main = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "-qb", "next")
    commit(repository, {"fleet.yaml": "kind: Fleet # next\n"})
    source = GitSource(url=url, cache=tmp_path / "cache")
    resolve = ObjectStore.resolve

    def late(store, name):
        monkeypatch.setattr(ObjectStore, "resolve", resolve)
        GitSource(url=url, ref="next", cache=tmp_path / "cache").revision()  # by another process
        return resolve(store, name)

    monkeypatch.setattr(ObjectStore, "resolve", late)
    assert source.revision() == main


def test_a_sub_path_is_the_root_of_the_fleet(url, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache", path="clusters")
    assert names(source.files(source.revision())) == ["a/nodes.json"]


def test_history_is_first_parent_newest_first_and_bounded(url, repository, tmp_path):
    commits = [git(repository, "rev-parse", "HEAD")]
    commits += [commit(repository, {"fleet.yaml": f"# {n}\n"}) for n in range(4)]
    source = GitSource(url=url, cache=tmp_path / "cache")
    assert source.history(source.revision(), 3) == tuple(reversed(commits[1:4]))


def test_a_rewritten_history_is_no_fast_forward(url, repository, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    commit(repository, {"fleet.yaml": "# two\n"})
    before = source.revision()
    git(repository, "reset", "-q", "--hard", "HEAD~1")
    commit(repository, {"fleet.yaml": "# other\n"})
    assert not source.descends(source.revision(), before)


def test_a_corrupted_cache_is_rebuilt(url, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    revision = source.revision()
    for item in (source.store.git_dir / "objects").rglob("*"):
        if item.is_file():
            item.chmod(0o644)
            item.write_bytes(b"rubbish")
    assert source.revision() == revision
    assert names(source.files(revision)) == ["clusters/a/nodes.json", "fleet.yaml"]


def test_a_cache_that_loses_its_objects_after_the_fetch_is_rebuilt(url, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    revision = source.revision()
    for item in (source.store.git_dir / "objects").rglob("*"):
        if item.is_file():
            item.unlink()
    assert names(source.files(revision)) == ["clusters/a/nodes.json", "fleet.yaml"]


def test_a_cache_directory_that_is_no_repository_is_rebuilt(url, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    source.store.git_dir.mkdir(parents=True)
    (source.store.git_dir / "HEAD").write_text("nonsense")
    assert len(source.revision()) == 40


def test_a_vanished_remote_is_unavailable_and_keeps_the_cache(repository, tmp_path):
    with daemon(repository.parent) as base:
        source = GitSource(url=f"{base}/fleet", cache=tmp_path / "cache")
        revision = source.revision()
    with pytest.raises(SourceError) as caught:
        source.revision()
    assert caught.value.reason is SourceReason.UNAVAILABLE
    assert names(source.files(revision)) == ["clusters/a/nodes.json", "fleet.yaml"]


def test_an_unknown_branch_is_unavailable_and_named(url, tmp_path):
    with pytest.raises(SourceError, match="nosuch"):
        GitSource(url=url, ref="nosuch", cache=tmp_path / "cache").revision()


def test_a_remote_that_never_answers_is_given_up_and_leaves_no_process(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(SourceError, match="did not end within"):
            GitSource(url=url, cache=tmp_path / "cache", fetch_timeout_s=0.5).revision()
        left = subprocess.run(["pgrep", "-f", url], capture_output=True, check=False)
    assert left.stdout == b""


@pytest.mark.parametrize("url", ["ext::sh -c id", "file:///etc", "/etc", "-oProxyCommand=id", "https://-x/y"])
def test_urls_that_run_commands_or_read_this_machine_are_refused(url, tmp_path):
    with pytest.raises(SourceError) as caught:
        GitSource(url=url, cache=tmp_path)
    assert caught.value.reason is SourceReason.REFUSED


def test_a_symbolic_link_is_refused(url, repository, tmp_path):
    (repository / "link.yaml").symlink_to("/etc/passwd")
    commit(repository, {})
    source = GitSource(url=url, cache=tmp_path / "cache")
    with pytest.raises(SourceError, match=r"link\.yaml.*symbolic link"):
        source.files(source.revision())
    directory = DirectorySource(repository)
    with pytest.raises(SourceError, match="symbolic link"):
        directory.revision()


def test_a_submodule_is_refused(url, repository, tmp_path):
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},vendor")
    git(repository, "commit", "-qm", "submodule")
    source = GitSource(url=url, cache=tmp_path / "cache")
    with pytest.raises(SourceError, match="submodule"):
        source.files(source.revision())


@pytest.mark.parametrize("name", ["new\nline.yaml", "back\\slash.yaml", "t\u00fcr.yaml", " lead.yaml"])
def test_odd_names_are_refused(url, repository, tmp_path, name):
    commit(repository, {name: "kind: Fleet\n"})
    source = GitSource(url=url, cache=tmp_path / "cache")
    with pytest.raises(SourceError, match="odd file name"):
        source.files(source.revision())


def test_an_oversized_file_is_refused(url, repository, tmp_path):
    commit(repository, {"big.yaml": "#" * 1_100_000})
    source = GitSource(url=url, cache=tmp_path / "cache")
    with pytest.raises(SourceError, match=r"big\.yaml: 1100000 bytes"):
        source.files(source.revision())


def test_hooks_and_configuration_of_the_user_are_not_read(url, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "url.git://127.0.0.1:1/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", url)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "nowhere"))
    source = GitSource(url=url, cache=tmp_path / "cache")
    assert len(source.files(source.revision())) == 2


def test_children_and_descriptors_stay_flat(url, tmp_path):
    source = GitSource(url=url, cache=tmp_path / "cache")
    revision = source.revision()
    source.files(revision)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        source.files(revision)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_commit_of_the_local_repository_is_read_without_its_work_tree(repository):
    first = git(repository, "rev-parse", "HEAD")
    commit(repository, {"clusters/a/nodes.json": '{"later": 1}'})
    (repository / "clusters/a/nodes.json").write_text("uncommitted")
    source = CommitSource(directory=repository / "clusters", name="HEAD~1")
    assert source.revision() == first
    assert [file.data for file in source.files(first)] == [b"{}"]


def test_a_linked_work_tree_reads_its_own_head(repository, tmp_path):
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    head = commit(tmp_path / "other", {"fleet.yaml": "# other\n"})
    source = CommitSource(directory=tmp_path / "other", name="HEAD")
    assert source.revision() == head
    assert [file.data for file in source.files(head)][1] == b"# other\n"


def test_an_unknown_revision_says_so(repository):
    with pytest.raises(SourceError, match="no such commit"):
        CommitSource(directory=repository, name="--output=x").revision()


def test_a_directory_outside_a_repository_says_so(tmp_path):
    with pytest.raises(SourceError, match="not in a git repository"):
        CommitSource(directory=tmp_path, name="HEAD").revision()


def test_a_directory_that_vanishes_is_unavailable(tmp_path):
    with pytest.raises(SourceError, match="no such directory"):
        DirectorySource(tmp_path / "gone").revision()


def test_a_revision_of_a_directory_is_its_content(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: Fleet\n")
    source = DirectorySource(tmp_path)
    first = source.revision()
    (tmp_path / "notes.txt").write_text("not a document")
    assert source.revision() == first
    (tmp_path / "a.yaml").write_text("kind: Node\n")
    assert source.revision() != first
    with pytest.raises(SourceError, match="no longer there"):
        source.files(first)


def test_a_command_that_runs_too_long_is_killed_with_its_children(tmp_path):
    hang = tmp_path / "hang"
    with pytest.raises(SourceError, match="did not end within"):
        run_git(tmp_path, "-c", f"alias.hang=!sleep 300 & sleep 300; : {hang}", "hang", timeout_s=0.5)
    assert subprocess.run(["pgrep", "-f", str(hang)], capture_output=True, check=False).stdout == b""
