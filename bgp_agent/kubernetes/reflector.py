"""A kind of objects, kept as they are in the API server: a list, then a watch from where the list ended.

The rules of the API ("Efficient detection of changes") leave three traps, and each has cost clusters their routes:

* A watch that ends, a 410, a 429, a server that is starting: none of them says that an object is gone. What is known
  stays, whatever happens, until a whole list or a DELETED event says otherwise.
* When a CustomResourceDefinition is deleted, every object of it is deleted first, one event each. So a deletion that
  the object's owner did not announce is believed only when the kind is still served, and not about to go.
* One object that cannot be read must not hide the others: it keeps its last good value, and is named.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec

from bgp_agent.kubernetes.api import Api
from bgp_agent.kubernetes.errors import Absent, ApiError, Expired, Forbidden, Unavailable, Unrouted, clean, refusal

PAGE: Final = 500
"""Objects a page of a list."""
FIRST_WAIT: Final = 0.2
"""Seconds before the first new attempt; doubled each time."""
LONGEST_WAIT: Final = 30.0
"""Seconds between attempts at most."""
DOUBT: Final = 1.0
"""Seconds until an unannounced deletion is judged: the deletion of a CRD is known to the server's discovery by then."""
REFUSED_WAIT: Final = 10.0
"""Seconds until a right that was missing is asked for again."""
WATCH: Final = (240, 360)
"""Seconds that one watch lasts: not the same for all nodes, so that they do not come back at once."""

T = TypeVar("T")


class Unreadable(Exception):  # noqa: N818 - named after the object
    """An object that is not what its kind says; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """Which objects, and how they are read.

    ``group``: the path of group and version, such as ``/apis/crd.projectcalico.org/v1``. ``decode``: from an object's
    JSON; raises :class:`Unreadable`. ``leaving``: did this last value announce the deletion of its object.
    ``accept`` of a list, ``accept_event`` of a watch: the forms in which the server is to send the objects.
    """

    group: str
    plural: str
    decode: Callable[[bytes], T]
    leaving: Callable[[T], bool] = field(default=lambda _: False)
    selector: Mapping[str, str] = field(default_factory=dict)
    accept: str = "application/json"
    accept_event: str = "application/json"

    @property
    def path(self) -> str:
        """Where the objects are listed."""
        return f"{self.group}/{self.plural}"


class _Meta(msgspec.Struct):
    name: str = ""
    version: str = msgspec.field(default="", name="resourceVersion")
    next: str = msgspec.field(default="", name="continue")


class _Named(msgspec.Struct):
    metadata: _Meta


class _List(msgspec.Struct):
    metadata: _Meta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Resource(msgspec.Struct):
    name: str
    verbs: list[str] = msgspec.field(default_factory=list)


class _Resources(msgspec.Struct):
    resources: list[_Resource] = msgspec.field(default_factory=list)


class _Version(msgspec.Struct):
    name: str = msgspec.field(name="groupVersion")


class _Group(msgspec.Struct):
    versions: list[_Version] = msgspec.field(default_factory=list)


class _Groups(msgspec.Struct):
    groups: list[_Group]


W = TypeVar("W")

_EVENT: Final = msgspec.json.Decoder(_Event)
_NAMED: Final = msgspec.json.Decoder(_Named)
_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


async def served(api: Api, group: str) -> set[str]:
    """The kinds of a group and version that can be created, by plural: without one whose CRD is being deleted.

    Empty when the group is not served. Raises :class:`ApiError` when nothing is known.
    """
    if group.startswith("/apis/"):
        groups = await _read(api, "/apis", _Groups)
        versions = {version.name for each in groups.groups for version in each.versions}
        if group.removeprefix("/apis/") not in versions:
            return set()
    found = await _read(api, group, _Resources)
    return {each.name for each in found.resources if "create" in each.verbs}


async def _read(api: Api, path: str, shape: type[W]) -> W:
    try:
        return msgspec.json.decode(await api.get(path), type=shape)
    except _BAD as error:
        raise Unavailable(f"GET {path}: {clean(error)}") from error


class Reflector(Generic[T]):
    """Keeps ``known`` equal to the objects of ``kind``, and tells ``changed`` by name; None: the object is gone.

    ``synced``: the whole list was read once. ``problem``: why what is known may be old; None while the watch stands.
    ``known`` may be given from an earlier reflector of the same objects: what the list lacks is then told as gone.
    """

    def __init__(
        self, api: Api, kind: Kind[T], changed: Callable[[dict[str, T | None]], None], known: dict[str, T] | None = None
    ) -> None:
        self.kind = kind
        self.known = known if known is not None else {}
        self.unreadable: dict[str, str] = {}
        self.synced = False
        self.problem: str | None = "not read yet"
        self._api = api
        self._changed = changed
        self._doubted: set[str] = set()
        self._judge = asyncio.Event()
        self._wait = FIRST_WAIT

    async def run(self) -> None:
        """Until cancelled. Raises :class:`Absent` when the kind is not served, or is about to go."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._judging())
            version: str | None = None
            while True:
                try:
                    if version is None:
                        version = await self._list()
                    version = await self._watch(version)
                except Expired:
                    version = None
                    await self._pause(None)
                except Absent:
                    raise
                except Unrouted as error:
                    self._tell(str(error))
                    await self._still_served()
                    await self._pause(None)
                except ApiError as error:
                    self._tell(str(error))
                    await self._pause(REFUSED_WAIT if isinstance(error, Forbidden) else error.retry_after)

    async def _pause(self, seconds: float | None) -> None:
        wait, self._wait = self._wait, min(self._wait * 2, LONGEST_WAIT)
        await asyncio.sleep((wait if seconds is None else max(seconds, FIRST_WAIT)) * random.uniform(0.75, 1.25))  # noqa: S311

    def _tell(self, problem: str | None) -> None:
        if self.problem != problem:
            self.problem = problem
            self._changed({})

    # --- list --------------------------------------------------------------------------------------------------------
    async def _list(self) -> str:
        """Read everything, page by page; the version that a watch goes on from."""
        seen: set[str] = set()
        changes: dict[str, T | None] = {}
        more = ""
        while True:
            params = {**self.kind.selector, "limit": str(PAGE)} | ({"continue": more} if more else {})
            body = await self._api.get(self.kind.path, params, self.kind.accept)
            try:
                page = msgspec.json.decode(body, type=_List)
            except _BAD as error:
                raise Unavailable(f"GET {self.kind.path}: {clean(error)}") from error
            for item in page.items or []:
                self._take(item, seen, changes)
            more = page.metadata.next
            if not more:
                break
        self._doubt({name for name in self.known if name not in seen})
        self.synced = True
        self.problem = None
        self._wait = FIRST_WAIT
        self._changed(changes)
        return page.metadata.version

    def _take(self, raw: msgspec.Raw, seen: set[str], changes: dict[str, T | None]) -> None:
        """Read one object; what cannot be read keeps its last good value."""
        name = _name(raw)
        if name is None:
            return
        seen.add(name)
        self._doubted.discard(name)
        try:
            value = self.kind.decode(bytes(raw))
        except Unreadable as error:
            self.unreadable[name] = str(error)
            return
        self.unreadable.pop(name, None)
        if self.known.get(name) != value:
            self.known[name] = value
            changes[name] = value

    # --- watch -------------------------------------------------------------------------------------------------------
    async def _watch(self, version: str) -> str:
        """Follow the events until the server ends the watch; the version to go on from.

        An agreed watch is heard, even while nothing happens. One that ends without a word is not begun anew at once.
        """
        lasting, silent = str(random.randint(*WATCH)), True  # noqa: S311
        params = {**self.kind.selector, "watch": "1", "allowWatchBookmarks": "true"}
        params |= {"resourceVersion": version, "timeoutSeconds": lasting}
        async for lines in self._api.lines(self.kind.path, params, self.kind.accept_event):
            changes: dict[str, T | None] = {}
            try:
                for line in lines:
                    version = self._event(line, changes) or version
            finally:
                if changes:
                    self._changed(changes)
            self._tell(None)
            if lines:
                self._wait, silent = FIRST_WAIT, False
        if silent:
            await self._pause(None)
        return version

    def _event(self, line: bytes, changes: dict[str, T | None]) -> str | None:
        """Apply one event; the version that it brings. Raises :class:`ApiError` for an ERROR event."""
        try:
            event = _EVENT.decode(line)
        except _BAD as error:
            raise Unavailable(f"watch of {self.kind.path}: {clean(error)}") from error
        if event.type == "ERROR":
            raise refusal(f"watch of {self.kind.path}", bytes(event.object))
        if event.type in {"ADDED", "MODIFIED"}:
            self._take(event.object, set(), changes)
        elif event.type == "DELETED":
            self._deleted(event.object, changes)
        return _version(event.object)

    def _deleted(self, raw: msgspec.Raw, changes: dict[str, T | None]) -> None:
        name = _name(raw)
        if name is None or name not in self.known:
            self.unreadable.pop(name or "", None)
            return
        if self.kind.leaving(self.known[name]):
            self._forget(name, changes)
        else:
            self._doubt({name})

    def _forget(self, name: str, changes: dict[str, T | None]) -> None:
        self.known.pop(name, None)
        self.unreadable.pop(name, None)
        changes[name] = None

    # --- doubt -------------------------------------------------------------------------------------------------------
    def _doubt(self, names: set[str]) -> None:
        if names:
            self._doubted |= names
            self._judge.set()

    async def _judging(self) -> None:
        """Believe in unannounced deletions while the kind is served as ever. Raises :class:`Absent` when it is not."""
        while True:
            await self._judge.wait()
            self._judge.clear()
            await asyncio.sleep(DOUBT)
            judged = set(self._doubted)  # what is doubted meanwhile waits for its own look
            await self._still_served()
            changes: dict[str, T | None] = {}
            for name in judged & self._doubted:
                self._forget(name, changes)
            self._doubted -= judged
            if changes:
                self._changed(changes)

    async def _still_served(self) -> None:
        """Ask until the server answers."""
        while True:
            try:
                kinds = await served(self._api, self.kind.group)
            except ApiError as error:
                self._tell(str(error))
                await self._pause(error.retry_after)
                continue
            if self.kind.plural in kinds:
                return
            self._tell(f"{self.kind.path} is being deleted as a kind: keeping what was known")
            raise Absent(self.problem or "")


def _name(raw: msgspec.Raw) -> str | None:
    try:
        return _NAMED.decode(raw).metadata.name or None
    except _BAD:
        return None


def _version(raw: msgspec.Raw) -> str | None:
    try:
        return _NAMED.decode(raw).metadata.version or None
    except _BAD:
        return None
