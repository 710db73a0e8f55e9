"""Tell when a file may have changed, whatever way it was changed.

A file is replaced in more ways than one: by a rename over it, by a write in place, by an editor that moves it away
first, by a symlink somewhere on its path that is swapped (a Kubernetes ConfigMap mount renames ``..data``). Watching
the file's inode sees only one of these, so every directory that holds a name the path goes through is watched, through
all symlinks (:func:`trail`), and the trail is followed anew after each event.

inotify (7) has limits and blind spots (a network file system, no watches left), so a look every few seconds stands
behind it. A look can meet a file that is half written, an event that says "closed" or "renamed" cannot. So such an
event is acted upon at once, and everything else when two looks in a row agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from asyncinotify import Event, Inotify, Mask
from asyncinotify import Watch as DirectoryWatch

POLL: Final = 5.0
"""Seconds between two looks when nothing seems to happen."""
POLL_ALONE: Final = 1.0
"""The same where inotify cannot be used."""
SETTLE: Final = 0.05
"""Seconds between the two looks that must agree, when something began that may go on."""
MAX_LINKS: Final = 40
"""Symlinks on one path, as the kernel has it (path_resolution (7))."""

_FINISHED: Final = Mask.CLOSE_WRITE | Mask.MOVED_TO
_BEGUN: Final = Mask.CREATE | Mask.ATTRIB | Mask.MOVED_FROM | Mask.DELETE
_LOST: Final = Mask.DELETE_SELF | Mask.MOVE_SELF
_EVENTS: Final = _FINISHED | _BEGUN | _LOST | Mask.ONLYDIR

Look = tuple[int, ...] | str
"""What a look at a file saw: device, inode, size, times and mode, or the reason why nothing was seen."""


def look(path: Path) -> Look:
    """What identifies the content of ``path`` now. Never raises."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return type(error).__name__
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode


def trail(path: Path) -> dict[Path, set[str]]:
    """The directories whose entries decide what ``path`` is, with the names that matter in each.

    Where a directory is missing, the nearest one above it stands for it: it will see it appear.
    """
    found: dict[Path, set[str]] = {}
    parts = list(reversed(path.parts[1:]))
    here = Path("/")
    links = 0
    while parts:
        name = parts.pop()
        if name == "..":
            here = here.parent
            continue
        entry = here / name
        try:
            mode = entry.lstat().st_mode
            target = os.readlink(entry) if stat.S_ISLNK(mode) else None  # noqa: PTH115 - Path would normalise it
        except OSError:
            found.setdefault(here, set()).add(name)
            break
        if target is not None:
            found.setdefault(here, set()).add(name)
            links += 1
            if links > MAX_LINKS:
                break
            parts += [part for part in reversed(Path(target).parts) if part != "/"]
            here = Path("/") if target.startswith("/") else here
        elif parts:
            here = entry
        else:
            found.setdefault(here, set()).add(name)
    return found


class Watch:
    """Calls ``changed(paths)`` from the running loop when files may have changed; a call too many is harmless.

    It tells of changes since it was made: make it, read the files, run it.
    ``reason`` says why changes are seen late (inotify cannot be used), None while they are seen at once.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        changed: Callable[[frozenset[Path]], None],
        *,
        poll: float = POLL,
        settle: float = SETTLE,
    ) -> None:
        self._paths = frozenset(map(_absolute, paths))
        self._changed = changed
        self._poll = poll
        self._settle = settle
        self._wake = asyncio.Event()
        self._finished: set[Path] = set()  # seen by an event that means "complete"
        self._begun = False
        self._seen: dict[Path, Look] = {path: look(path) for path in self._paths}
        self._second: dict[Path, Look] = {}  # looks that wait for one that agrees
        self._names: dict[Path, dict[str, set[Path]]] = {}  # directory -> name in it -> files that hang on it
        self._watches: dict[Path, DirectoryWatch] = {}
        self._left: list[DirectoryWatch] = []  # watches of directories that are not where they were
        self.reason: str | None = "not started"

    @property
    def paths(self) -> frozenset[Path]:
        """The files that are watched."""
        return self._paths

    def replace(self, paths: Iterable[Path]) -> None:
        """Watch these files from now on. The same files once more are no news."""
        wanted = frozenset(map(_absolute, paths))
        if wanted == self._paths:
            return
        self._paths = wanted
        self._seen = {path: self._seen.get(path) or look(path) for path in self._paths}
        self._second = {path: seen for path, seen in self._second.items() if path in self._paths}
        self._finished &= self._paths
        self._begun = True
        self._wake.set()

    def again(self) -> None:
        """Tell of every file at the next look, changed or not: what was told could not be read just then."""
        self._finished |= self._paths

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            inotify = Inotify()
        except OSError as error:
            self.reason = f"inotify cannot be used ({error.strerror}): looking every {POLL_ALONE:g} s instead"
            await self._follow(None)
            return
        with inotify:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(inotify))
                group.create_task(self._follow(inotify))

    async def _listen(self, inotify: Inotify) -> None:
        while True:
            if self._concerns_us(await inotify.get()):
                self._wake.set()

    def _concerns_us(self, event: Event) -> bool:
        """Remember what an event means; False for entries of the directory that no path of ours goes through."""
        watch = event.watch
        if watch is None or event.name is None:  # the queue ran over, or something befell the directory itself
            if watch is not None and self._watches.get(watch.path) is watch:
                self._left.append(self._watches.pop(watch.path))  # the trail finds what stands there now
            self._begun = True
            return True
        files = self._names.get(watch.path, {}).get(str(event.name), set())
        if event.mask & _FINISHED or (event.mask & Mask.CREATE and _is_link(watch.path / event.name)):
            self._finished |= files & self._paths
        elif files:
            self._begun = True
        return bool(files)

    async def _follow(self, inotify: Inotify | None) -> None:
        while True:
            if inotify is not None:
                self._watch_trails(inotify)
            self._look()
            pause = self._poll if self.reason is None else min(self._poll, POLL_ALONE)
            delay = self._settle if self._begun else pause
            self._begun = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            self._wake.clear()

    def _look(self) -> None:
        """Compare with what was seen before, and tell what changed."""
        told = set()
        finished, self._finished = self._finished, set()
        for path in self._paths:
            now = look(path)
            if path not in finished:
                if now == self._seen[path]:
                    self._second.pop(path, None)
                    continue
                if self._second.get(path) != now:
                    self._second[path] = now
                    continue
            self._second.pop(path, None)
            self._seen[path] = now
            told.add(path)
        if told:
            self._changed(frozenset(told))

    def _watch_trails(self, inotify: Inotify) -> None:
        """Watch the directories that matter now. What changes meanwhile is met by going round until nothing does."""
        for _ in range(MAX_LINKS):
            wanted: dict[Path, dict[str, set[Path]]] = {}
            for path in self._paths:
                for directory, names in trail(path).items():
                    for name in names:
                        wanted.setdefault(directory, {}).setdefault(name, set()).add(path)
            self._names = wanted
            if not self._add(inotify, wanted.keys() - self._watches.keys()):
                break
        self._left += [self._watches.pop(directory) for directory in self._watches.keys() - self._names.keys()]
        while self._left:
            with contextlib.suppress(OSError):  # the directory went, and its watch with it
                inotify.rm_watch(self._left.pop())

    def _add(self, inotify: Inotify, directories: Iterable[Path]) -> bool:
        """Add watches; True when one was added, so that the trails must be followed once more."""
        added, reason = False, None
        for directory in directories:
            try:
                self._watches[directory] = inotify.add_watch(directory, _EVENTS)
                added = self._begun = True  # what happened before the watch stood told no event
            except FileNotFoundError:
                added = True  # it went while we looked: the trail is another one now
            except OSError as error:
                reason = f"{directory} cannot be watched ({error.strerror}): looking every {POLL_ALONE:g} s instead"
        self.reason = reason
        return added


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the symlinks that are to be watched


def _is_link(path: Path) -> bool:
    """A symlink is complete as it appears; the content of a file or a directory may still be on its way."""
    try:
        return path.is_symlink()
    except OSError:
        return False
