"""Container logs: lines with times, read back as `kubectl logs` asks."""

import asyncio

from reconciler.sandbox.kubelet.logs import LogFile, LogQuery, last_output, read


def collect(path, query, log=None, live=lambda: False):
    async def gather():
        return b"".join([chunk async for chunk in read(path, query, log, live)])

    return asyncio.run(gather())


def written(tmp_path, *pieces):
    async def write():
        log = LogFile(tmp_path / "c" / "0.log")
        for piece in pieces:
            log.write(piece)
        log.finish()
        return log.path

    return asyncio.run(write())


def test_a_line_is_written_whole_whatever_pieces_it_comes_in(tmp_path):
    path = written(tmp_path, b"on", b"e\ntwo\nth", b"ree")
    assert collect(path, LogQuery()) == b"one\ntwo\nthree\n"


def test_tail_limit_and_since(tmp_path):
    path = written(tmp_path, b"one\ntwo\nthree\n")
    assert collect(path, LogQuery(tail_lines=2)) == b"two\nthree\n"
    assert collect(path, LogQuery(tail_lines=0)) == b""
    assert collect(path, LogQuery(limit_bytes=5)) == b"one\nt"
    assert collect(path, LogQuery(since=9e9)) == b""
    assert collect(path, LogQuery(since=0.0)) == b"one\ntwo\nthree\n"


def test_timestamps_are_what_kubectl_parses(tmp_path):
    stamp, _, rest = collect(written(tmp_path, b"one\n"), LogQuery(timestamps=True)).partition(b" ")
    assert rest == b"one\n"
    assert stamp.endswith(b"Z")
    assert len(stamp) == len(b"2026-11-24T10:00:00.000000000Z")


def test_follow_gives_what_comes_later_and_ends_with_the_instance(tmp_path):
    async def scenario():
        log = LogFile(tmp_path / "0.log")
        log.line("before")
        alive, got = [True], []

        async def follower():
            async for chunk in read(log.path, LogQuery(follow=True, tail_lines=1), log, lambda: bool(alive)):
                got.append(chunk)  # noqa: PERF401  what came before a time-out shall be seen

        task = asyncio.create_task(follower())
        await asyncio.sleep(0)
        log.line("later")
        log.line("last words")
        alive.clear()
        await asyncio.wait_for(task, 10)
        return b"".join(got)

    assert asyncio.run(scenario()) == b"before\nlater\nlast words\n"


def test_the_end_of_a_log_stands_in_for_a_termination_message(tmp_path):
    path = written(tmp_path, b"".join(b"line %d\n" % number for number in range(200)))
    assert last_output(path).startswith("line 120\n")
    assert len(last_output(path, size_bytes=100)) == 100
    assert last_output(tmp_path / "none") == ""
