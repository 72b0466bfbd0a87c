"""The client and the informer against a small real HTTP server that misbehaves on purpose."""

import asyncio
import json

import pytest
from aiohttp import web

from reconciler.adapters import informer as informer_module
from reconciler.adapters import kube as kube_module
from reconciler.adapters.informer import Informer
from reconciler.adapters.kube import ConnectError, Kube


def node(name, version):
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


class Scripted:
    """Serves /things: a list and watch streams, each as a test says."""

    def __init__(self):
        self.pages = [{"items": [], "metadata": {"resourceVersion": "1"}}]
        self.streams = []  # one list of lines a watch; then streams stay open and silent
        self.requests = []
        self.status = 200

    async def things(self, request):
        self.requests.append(dict(request.query))
        if "watch" in request.query:
            return await self.stream(request)
        if self.status != 200:
            return web.json_response({"kind": "Status", "message": "no"}, status=self.status)
        page = int(request.query.get("continue", "0"))
        return web.json_response(self.pages[page])

    async def stream(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        lines = self.streams.pop(0) if self.streams else None
        for line in lines or []:
            if line == "break":
                request.transport.close()
                return response
            await response.write(json.dumps(line).encode() + b"\n")
        if lines is None:
            await asyncio.sleep(5)
        return response


async def text(_request):
    return web.Response(text="<html>a proxy</html>", status=502)


async def slow(_request):
    await asyncio.sleep(5)
    return web.Response()


async def drop(request):
    request.transport.close()
    return web.Response()


async def echo(request):
    body = await request.json()
    return web.json_response({"query": dict(request.query), "type": request.content_type, "body": body})


@pytest.fixture
def serve(monkeypatch):
    """`run(test)` with a client of a server; the pauses between tries are short."""
    monkeypatch.setattr(informer_module, "BACK_OFF_S", (0.01,))
    monkeypatch.setattr(kube_module, "READ_PAUSE_LIMIT_S", 0.01)

    def run(test, *, timeout_s=0.5):
        async def main():
            scripted = Scripted()
            app = web.Application()
            app.add_routes(
                [
                    web.get("/things", scripted.things),
                    web.get("/text", text),
                    web.get("/slow", slow),
                    web.get("/drop", drop),
                    web.route("*", "/echo", echo),
                ]
            )
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            configuration = kube_module.Configuration()
            configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
            kube = Kube(configuration, user_agent="test", qps=1000, timeout_s=timeout_s)
            try:
                async with asyncio.timeout(20):
                    await test(kube, scripted)
            finally:
                await kube.close()
                await runner.cleanup()

        asyncio.run(main())

    return run


def test_no_answer_is_code_0_and_never_an_exception(serve):
    async def test(kube, _):
        for path in ("/slow", "/drop"):
            response = await kube.create(path, {})
            assert (response.code, response.ok) in {(0, False), (405, False)}
        assert (await kube.get("/drop")).code == 0
        assert (await kube._request("GET", "/slow", {})).code == 0

    serve(test)


def test_a_body_that_is_no_json_becomes_a_message(serve):
    async def test(kube, _):
        response = await kube.get("/text")
        assert response.code == 502
        assert "a proxy" in response.message

    serve(test)


def test_each_write_says_what_it_is(serve):
    async def test(kube, _):
        applied = await kube.apply("/echo", {"a": 1}, field_manager="me", force=True, dry_run=True)
        assert applied.body["type"] == "application/apply-patch+yaml"
        assert applied.body["query"] == {"fieldManager": "me", "force": "true", "dryRun": "All"}
        merged = await kube.patch("/echo", {"a": None}, field_manager="me")
        assert merged.body == {
            "type": "application/merge-patch+json",
            "query": {"fieldManager": "me"},
            "body": {"a": None},
        }
        deleted = await kube.delete("/echo", uid="u", resource_version="7", grace_s=0, propagation="Orphan")
        assert deleted.body["body"]["preconditions"] == {"uid": "u", "resourceVersion": "7"}
        assert deleted.body["body"]["gracePeriodSeconds"] == 0

    serve(test)


def test_pages_are_one_list(serve):
    async def test(kube, scripted):
        scripted.pages = [
            {"items": [node("a", 1)], "metadata": {"resourceVersion": "9", "continue": "1"}},
            {"items": [node("b", 2)], "metadata": {"resourceVersion": "9"}},
        ]
        response = await kube.list("/things")
        assert [item["metadata"]["name"] for item in response.body["items"]] == ["a", "b"]
        assert response.body["metadata"]["resourceVersion"] == "9"

    serve(test)


def test_more_than_a_second_of_requests_waits_its_turn(serve):
    async def test(kube, _):
        pace = kube_module._Pace(10)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _turn in range(13):
            await pace.turn()
        assert loop.time() - started >= 0.25  # 10 at once, 3 more at 0.1 s each; never faster

    serve(test)


async def until(condition):
    while not condition():  # noqa: ASYNC110  bounded by the test's own time-out
        await asyncio.sleep(0.005)


def names(store):
    return sorted(item["metadata"]["name"] for item in store)


def test_the_informer_follows_and_lists_again_after_a_break(serve):
    async def test(kube, scripted):
        scripted.pages = [{"items": [node("a", 1)], "metadata": {"resourceVersion": "5"}}]
        scripted.streams = [[{"type": "ADDED", "object": node("b", 6)}, "break"]]
        changes = []
        informer = Informer(kube, "/things", dict, changed=lambda: changes.append(1))
        async with informer.running():
            await until(lambda: names(informer.store) == ["a", "b"])
            scripted.pages = [{"items": [node("c", 7)], "metadata": {"resourceVersion": "7"}}]
            await until(lambda: names(informer.store) == ["c"])
            assert informer.store.epoch == 2
        assert changes
        watches = [query for query in scripted.requests if "watch" in query]
        assert watches[0]["resourceVersion"] == "5"

    serve(test)


def test_an_expired_watch_lists_again_and_a_clean_end_does_not(serve):
    async def test(kube, scripted):
        scripted.pages = [{"items": [], "metadata": {"resourceVersion": "5"}}]
        gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
        scripted.streams = [[{"type": "ADDED", "object": node("a", 8)}], [gone]]
        informer = Informer(kube, "/things", dict)
        async with informer.running():
            await until(lambda: informer.store.epoch == 2)
        watches = [query["resourceVersion"] for query in scripted.requests if "watch" in query]
        assert watches[:2] == ["5", "8"]  # the second stream went on where the first had ended

    serve(test)


def test_a_server_that_went_backwards_replaces_the_store(serve):
    async def test(kube, scripted):
        scripted.pages = [{"items": [node("a", 90)], "metadata": {"resourceVersion": "100"}}]
        back = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "40"}}}
        scripted.streams = [[back]]
        informer = Informer(kube, "/things", dict)
        async with informer.running():
            await until(informer.synced.is_set)
            scripted.pages = [{"items": [node("a", 30)], "metadata": {"resourceVersion": "40"}}]
            await until(lambda: informer.store.seen == 40)
            assert informer.store.get("a")["metadata"]["resourceVersion"] == "30"

    serve(test)


def test_a_list_that_fails_is_tried_again_and_nothing_is_forgotten(serve):
    async def test(kube, scripted):
        scripted.pages = [{"items": [node("a", 1)], "metadata": {"resourceVersion": "5"}}]
        scripted.streams = [["break"]]
        informer = Informer(kube, "/things", dict)
        async with informer.running():
            await until(informer.synced.is_set)
            scripted.status = 500
            before = len(scripted.requests)
            await until(lambda: len(scripted.requests) > before + 3)
            assert names(informer.store) == ["a"]
            scripted.status = 200
            await until(lambda: informer.store.epoch == 2)

    serve(test)


def test_a_silent_watch_is_taken_for_broken(serve, monkeypatch):
    monkeypatch.setattr(kube_module, "WATCH_SILENCE_S", 0.05)

    async def test(kube, scripted):
        informer = Informer(kube, "/things", dict)
        async with informer.running():
            await until(lambda: informer.store.epoch >= 2)
        assert scripted.requests

    serve(test)


def test_a_forced_list_under_a_running_watch_wins(serve):
    async def test(kube, scripted):
        scripted.pages = [{"items": [node("a", 1)], "metadata": {"resourceVersion": "5"}}]
        informer = Informer(kube, "/things", dict)
        async with informer.running():
            await until(informer.synced.is_set)
            scripted.pages = [{"items": [node("b", 6)], "metadata": {"resourceVersion": "6"}}]
            assert (await informer.relist()).ok
            assert names(informer.store) == ["b"]

    serve(test)


def test_credentials_that_are_not_there_name_the_file(tmp_path):
    with pytest.raises(ConnectError, match=r"nowhere.*--kubeconfig"):
        asyncio.run(Kube.connect(tmp_path / "nowhere"))
    broken = tmp_path / "broken"
    broken.write_text("a: [", encoding="utf-8")
    with pytest.raises(ConnectError, match="broken"):
        asyncio.run(Kube.connect(broken))
