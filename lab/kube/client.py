"""A small, blocking client of a Kubernetes API, for tests and the lab: any object, by its kind, as parsed JSON.

What cannot be answered yet is waited for: 429, which a server says just after a definition was made ("storage is
(re)initializing"), and a connection that ended between two requests. Everything else is the test's matter.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from lab.netns import Namespace, wait_for

Object = Mapping[str, Any]
#: Content types of PATCH (RFC 7386, RFC 6902).
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
#: Seconds that a 429 is waited out.
PATIENCE: Final = 15.0


class RefusedError(Exception):
    """The API answered with an error. ``status``: the HTTP code; ``answer``: the Status object."""

    def __init__(self, asked: str, status: int, answer: Any) -> None:  # noqa: ANN401 - parsed JSON
        message = answer.get("message") if isinstance(answer, dict) else answer
        super().__init__(f"{asked}: {status} {message}")
        self.status, self.answer = status, answer


class Client:
    """One user's view of an API. ``inside``: the namespace to connect from; the connection is kept between requests.

    Not for two threads at once: make another with :meth:`lab.kubernetes.ApiServer.client`.
    """

    def __init__(self, address: str, port: int, authority: Path, token: str, inside: Namespace | None = None) -> None:
        self._where, self._authority, self._token, self._inside = (address, port), authority, token, inside
        self._connection: http.client.HTTPSConnection | None = None
        self._kinds: dict[tuple[str, str], tuple[str, bool, bool]] = {}

    # --- objects -----------------------------------------------------------------------------------------------------
    def get(self, path: str, **query: str | int) -> Any:  # noqa: ANN401 - parsed JSON
        """What stands at ``path``, ``/api/v1/nodes/node-a``. Raises :class:`RefusedError`."""
        return self._must("GET", path, None, query)

    def find(self, path: str) -> Any | None:  # noqa: ANN401 - parsed JSON
        """What stands at ``path``, or None."""
        try:
            return self.get(path)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: str | int) -> list[Any]:
        """The objects of a list, each with its apiVersion and kind."""
        answer = self.get(path, **query)
        same = {"apiVersion": answer["apiVersion"], "kind": answer["kind"].removesuffix("List")}
        return [{**same, **item} for item in answer["items"]]

    def create(self, thing: Object) -> Any:  # noqa: ANN401 - parsed JSON
        """Create an object, status too."""
        made = self._must("POST", self.folder(thing), thing, {})
        return self._with_status(thing, made)

    def update(self, thing: Object) -> Any:  # noqa: ANN401 - parsed JSON
        """Replace an object whole, whoever wrote it last."""
        path = self.path(thing)
        while True:
            metadata = {**thing["metadata"], "resourceVersion": self.get(path)["metadata"]["resourceVersion"]}
            try:
                return self._with_status(thing, self._must("PUT", path, {**thing, "metadata": metadata}, {}))
            except RefusedError as error:
                if error.status != 409:
                    raise

    def apply(self, *things: Object) -> Any:  # noqa: ANN401 - parsed JSON
        """Create or replace; the last one as it stands then."""
        made = None
        for thing in things:
            try:
                made = self.create(thing)
            except RefusedError as error:
                if error.status != 409:
                    raise
                made = self.update(thing)
        return made

    def patch(self, path: str, change: object, *, kind: str = MERGE) -> Any:  # noqa: ANN401 - parsed JSON
        """Patch what stands at ``path``; of the status: ``…/status``."""
        return self._must("PATCH", path, change, {}, kind)

    def delete(self, what: str | Object, **query: str | int) -> None:
        """Delete an object, by its path or itself. Raises :class:`RefusedError` with 404 when there is none."""
        self._must("DELETE", what if isinstance(what, str) else self.path(what), None, query)

    def define(self, definitions: Iterable[Object], timeout: float = PATIENCE) -> None:
        """Create or replace CustomResourceDefinitions, and wait until their objects can be listed."""
        waiting = list(definitions)
        self.apply(*waiting)
        for each in waiting:
            spec = each["spec"]
            path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
            wait_for(f"{path} is served", lambda path=path: self.request("GET", path)[0] == 200, timeout)  # type: ignore[misc]  # a lambda's default

    def watch(self, path: str, *, since: str | int = "", seconds: int = 5, **query: str | int) -> Iterator[Any]:
        """Events after the resource version ``since`` (empty: the present objects first), for that many seconds."""
        more = {"watch": "1", "resourceVersion": since, "timeoutSeconds": seconds, "allowWatchBookmarks": "false"}
        connection = self._connect(seconds + 10.0)
        try:
            connection.request("GET", _target(path, {**more, **query}), headers=self._headers())
            answer = connection.getresponse()
            if answer.status != 200:
                raise RefusedError(f"watch {path}", answer.status, _parsed(answer.read()))
            for line in answer:
                yield json.loads(line)
        finally:
            connection.close()

    # --- paths -------------------------------------------------------------------------------------------------------
    def folder(self, thing: Object) -> str:
        """The path that an object is created at."""
        api, kind = thing["apiVersion"], thing["kind"]
        plural, namespaced, _status = self._kind(api, kind)
        start = f"/apis/{api}" if "/" in api else f"/api/{api}"
        space = f"/namespaces/{thing['metadata'].get('namespace', 'default')}" if namespaced else ""
        return f"{start}{space}/{plural}"

    def path(self, thing: Object) -> str:
        """The path of an object."""
        return f"{self.folder(thing)}/{thing['metadata']['name']}"

    def _kind(self, api: str, kind: str) -> tuple[str, bool, bool]:
        """Plural, is it in a namespace, has it a status of its own. Raises LookupError."""
        if (api, kind) not in self._kinds:
            listed = self.get(f"/apis/{api}" if "/" in api else f"/api/{api}")["resources"]
            names = {each["name"] for each in listed}
            for each in listed:
                if "/" not in each["name"]:
                    known = (each["name"], each["namespaced"], f"{each['name']}/status" in names)
                    self._kinds[api, each["kind"]] = known
        if (api, kind) not in self._kinds:
            raise LookupError(f"the API serves no {kind} in {api}")
        return self._kinds[api, kind]

    def _with_status(self, thing: Object, made: Any) -> Any:  # noqa: ANN401 - parsed JSON
        if "status" not in thing or not self._kind(thing["apiVersion"], thing["kind"])[2]:
            return made
        return self._must("PUT", f"{self.path(thing)}/status", {**made, "status": thing["status"]}, {})

    # --- requests ----------------------------------------------------------------------------------------------------
    def _must(
        self, method: str, path: str, body: object, query: Mapping[str, str | int], kind: str = "application/json"
    ) -> Any:  # noqa: ANN401 - parsed JSON
        deadline = time.monotonic() + PATIENCE
        while True:
            status, answer = self.request(method, _target(path, query), body, kind=kind)
            if status < 300:
                return answer
            if status != 429 or time.monotonic() > deadline:
                raise RefusedError(f"{method} {path}", status, answer)
            time.sleep(0.1)

    def request(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", timeout: float = 20.0,
        **query: str | int,
    ) -> tuple[int, Any]:  # fmt: skip
        """One request: status and parsed answer, whatever it is. Raises OSError when nobody answers."""
        data = None if body is None else json.dumps(body).encode()
        fresh = self._connection is None
        connection = self._connection = self._connection or self._connect(timeout)
        if connection.sock:
            connection.sock.settimeout(timeout)
        try:
            connection.request(method, _target(path, query), data, {**self._headers(), "Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, _parsed(answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not fresh and not isinstance(error, TimeoutError):  # the server was restarted since the last request
                return self.request(method, path, body, kind=kind, timeout=timeout, **query)
            if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
                raise ConnectionError(str(error)) from error
            raise

    def close(self) -> None:
        """End the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self._authority))
        connection = http.client.HTTPSConnection(*self._where, timeout=timeout, context=context)
        entered: AbstractContextManager[None] = self._inside.entered() if self._inside else nullcontext()
        with entered:
            connection.connect()
        return connection


def _target(path: str, query: Mapping[str, str | int]) -> str:
    return path + (f"{'&' if '?' in path else '?'}{urllib.parse.urlencode(query)}" if query else "")


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - parsed JSON
    try:
        return json.loads(body or b"{}")
    except ValueError:
        return body.decode(errors="replace")
