"""What a watch may never believe, against a server that answers whatever the test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bgp_agent.kubernetes import reflector
from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.errors import Absent
from bgp_agent.kubernetes.reflector import Kind, Reflector, Unreadable

GROUP = "/apis/example.org/v1"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def thing(name: str, value: object = 1, version: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}, "spec": {"value": value}}


def event(kind: str, given: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "object": given}) + "\n"


def status(code: int, reason: str, message: str = "", **details: object) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}


def decode(raw: bytes) -> int:
    value = json.loads(raw)["spec"]["value"]
    if not isinstance(value, int):
        raise Unreadable(f"spec.value is {value!r}")
    return value


class Server:
    """Lists ``things``; each watch plays the next of ``watches``, then hangs. ``refusals`` come before all that."""

    def __init__(self) -> None:
        self.one_by_one = False
        self.things = [thing("one")]
        self.watches: list[str] = []
        self.refusals: list[tuple[int, dict[str, Any] | str]] = []
        self.verbs = ["create", "get", "list", "watch"]
        self.lists = 0
        self.followed: list[str] = []

    async def groups(self, _: web.Request) -> web.Response:
        return web.json_response({"groups": [{"versions": [{"groupVersion": "example.org/v1"}]}]})

    async def kinds(self, _: web.Request) -> web.Response:
        return web.json_response({"resources": [{"name": "things", "verbs": self.verbs}]})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.refusals:
            code, body = self.refusals.pop(0)
            if isinstance(body, str):
                return web.Response(status=code, text=body)
            return web.json_response(body, status=code)
        if "watch" not in request.query:
            return self.listed(request)
        self.followed.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if self.watches:
            await response.write(self.watches.pop(0).encode())
            return response
        await asyncio.sleep(60)
        return response

    def listed(self, request: web.Request) -> web.Response:
        self.lists += 1
        after = int(request.query.get("continue", "0"))
        more = str(after + 1) if self.one_by_one and after + 1 < len(self.things) else ""
        items = self.things[after : after + 1] if self.one_by_one else self.things
        return web.json_response({"metadata": {"resourceVersion": "10", "continue": more}, "items": items})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Api]]:
    served = Server()
    app = web.Application()
    app.router.add_get("/apis", served.groups)
    app.router.add_get(GROUP, served.kinds)
    app.router.add_get(f"{GROUP}/things", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    api = Api(str(kubeconfig(port)))
    yield served, api
    await api.close()
    await runner.cleanup()


def kubeconfig(port: int) -> Path:
    import tempfile  # noqa: PLC0415

    path = Path(tempfile.mkdtemp()) / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "current-context": "x",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path


class Watching:
    """A reflector that runs, and what it told."""

    def __init__(self, api: Api, known: dict[str, int] | None = None) -> None:
        self.told: list[dict[str, int | None]] = []
        self.problems: list[str | None] = []
        kind = Kind(GROUP, "things", decode, lambda value: value < 0)
        self.reflector = Reflector(api, kind, self._take, known)
        self.task = asyncio.create_task(self.reflector.run())

    def _take(self, changes: dict[str, int | None]) -> None:
        self.problems.append(self.reflector.problem)
        if changes:
            self.told.append(changes)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(10):
                while not condition():
                    if self.task.done():
                        self.task.result()
                    await asyncio.sleep(0.005)
        except TimeoutError:
            pytest.fail(f"{what} within 10 s: {self.told} {self.reflector.known} {self.problems}")

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(reflector, "DOUBT", 0.05)


pytestmark = pytest.mark.usefixtures("quick")


async def test_a_list_then_the_changes(server: tuple[Server, Api]) -> None:
    served, api = server
    served.watches = [
        event("ADDED", thing("two", 2, "11"))
        + event("MODIFIED", thing("one", -1, "12"))
        + event("DELETED", thing("one", -1, "13"))
        + event("BOOKMARK", thing("", 0, "20"))
    ]
    seen = Watching(api)
    await seen.until(lambda: len(served.followed) == 2, "the second watch")
    assert seen.told[0] == {"one": 1}
    assert seen.reflector.known == {"two": 2}
    assert served.followed == ["10", "20"]
    assert seen.reflector.problem is None
    await seen.end()


async def test_a_list_comes_in_pages(server: tuple[Server, Api]) -> None:
    served, api = server
    served.one_by_one = True
    served.things = [thing(name) for name in ("one", "two", "three")]
    seen = Watching(api)
    await seen.until(lambda: seen.reflector.synced, "the list")
    assert seen.told == [{"one": 1, "two": 1, "three": 1}]
    assert served.lists == 3
    await seen.end()


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (429, status(429, "TooManyRequests", "storage is (re)initializing", retryAfterSeconds=0)),
        (500, status(500, "InternalError")),
        (503, "<html>a proxy</html>"),
        (200, "not JSON"),
        (200, {"kind": "Status"}),
        (403, "<html>a proxy</html>"),
        (404, "404 page not found"),
    ],
    ids=["starting", "internal error", "proxy", "garbage", "another shape", "proxy forbids", "not routed"],
)
async def test_an_answer_that_says_nothing_changes_nothing(
    server: tuple[Server, Api], code: int, body: dict[str, Any] | str
) -> None:
    served, api = server
    served.refusals = [(code, body)] * 2
    seen = Watching(api, {"one": 1, "kept": 5})
    await seen.until(lambda: any(seen.problems), "the problem")
    assert seen.reflector.known == {"one": 1, "kept": 5}
    await seen.until(lambda: seen.reflector.synced, "the list")
    await seen.end()


@pytest.mark.parametrize(
    "line",
    [
        event("ERROR", status(410, "Expired", "too old resource version")),
        event("ERROR", status(504, "Timeout", "Too large resource version: 342, current: 331", retryAfterSeconds=0)),
        event("MODIFIED", thing("one", 3))[:40],
        "garbage\n",
        '{"type": "ADDED"}\n',
        event("STRANGE", thing("one", 7)),
    ],
    ids=["gone", "ahead", "mid-object", "garbage", "no object", "an unknown event"],
)
async def test_a_watch_that_breaks_takes_nothing_away(server: tuple[Server, Api], line: str) -> None:
    served, api = server
    served.watches = [line]
    seen = Watching(api)
    await seen.until(lambda: len(served.followed) == 2, "the next watch")
    assert seen.reflector.known == {"one": 1}
    await seen.until(lambda: seen.reflector.problem is None or not served.lists - 1, "no problem any more")
    await seen.end()


async def test_a_watch_that_the_server_agreed_to_is_heard_though_nothing_happens(server: tuple[Server, Api]) -> None:
    served, api = server
    served.watches = [event("ERROR", status(500, "InternalError"))]
    seen = Watching(api)
    await seen.until(lambda: len(served.followed) == 2, "the next watch")
    await seen.until(lambda: seen.reflector.problem is None, "no problem any more")
    assert any(problem and "500" in problem for problem in seen.problems)
    await seen.end()


async def test_watches_that_end_without_a_word_are_begun_ever_more_seldom(server: tuple[Server, Api]) -> None:
    served, api = server
    served.watches = [""] * 5
    seen = Watching(api)
    began = asyncio.get_running_loop().time()
    await seen.until(lambda: len(served.followed) == 6, "the sixth watch")
    assert asyncio.get_running_loop().time() - began > 0.01 * (1 + 2 + 4 + 8 + 16) * 0.75
    await seen.end()


async def test_after_410_the_list_is_read_anew_and_what_is_missing_is_gone(server: tuple[Server, Api]) -> None:
    served, api = server
    served.watches = [event("ERROR", status(410, "Gone"))]
    seen = Watching(api, {"one": 1, "old": 4})
    await seen.until(lambda: "old" not in seen.reflector.known, "the missing object gone")
    assert {"old": None} in seen.told
    assert served.lists == 2
    await seen.end()


async def test_one_object_that_cannot_be_read_keeps_its_last_value_and_hides_no_other(
    server: tuple[Server, Api],
) -> None:
    served, api = server
    served.things = [thing("bad", "x"), {"metadata": {}}, {"metadata": 7}, thing("one")]
    served.watches = [event("MODIFIED", thing("one", "absurd")) + event("ADDED", thing("two", 2))]
    seen = Watching(api)
    await seen.until(lambda: "two" in seen.reflector.known, "the good object")
    assert seen.reflector.known == {"one": 1, "two": 2}
    assert seen.reflector.unreadable == {"bad": "spec.value is 'x'", "one": "spec.value is 'absurd'"}
    await seen.end()


async def test_a_kind_that_is_being_deleted_takes_its_objects_from_nobody(server: tuple[Server, Api]) -> None:
    served, api = server
    served.verbs = ["delete", "get", "list", "watch"]
    served.watches = [event("DELETED", thing("one"))]
    seen = Watching(api)
    with pytest.raises(ExceptionGroup) as caught:
        await seen.until(lambda: False, "the end")
    assert caught.group_contains(Absent)
    assert seen.reflector.known == {"one": 1}
    assert {"one": None} not in seen.told


async def test_an_unannounced_deletion_is_believed_while_the_kind_is_served(server: tuple[Server, Api]) -> None:
    served, api = server
    served.watches = [event("DELETED", thing("one"))]
    seen = Watching(api)
    await seen.until(lambda: {"one": None} in seen.told, "the deletion")
    await seen.end()


async def test_an_object_that_comes_back_while_its_deletion_is_doubted_stays(server: tuple[Server, Api]) -> None:
    served, api = server
    served.watches = [event("DELETED", thing("one")) + event("ADDED", thing("one", 1)), event("ADDED", thing("two"))]
    seen = Watching(api)
    await seen.until(lambda: "two" in seen.reflector.known, "the second watch")
    await asyncio.sleep(3 * reflector.DOUBT)  # nothing happens: there is no condition to wait for
    assert seen.reflector.known == {"one": 1, "two": 1}
    await seen.end()


async def test_a_refused_right_names_verb_and_resource(server: tuple[Server, Api]) -> None:
    served, api = server
    words = 'things.example.org is forbidden: User "agent" cannot list resource "things" in API group "example.org"'
    served.refusals = [(403, status(403, "Forbidden", words))]
    seen = Watching(api)
    await seen.until(lambda: seen.reflector.problem != "not read yet", "the problem")
    assert 'User "agent" cannot list resource "things"' in (seen.reflector.problem or "")
    await seen.end()
