"""Who is told when lists of users change: subscribers of event loops, told by the thread that follows the log."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Watch:
    """What one subscriber watches. For the tasks of the event loop that made it."""

    def __init__(self, watchers: "Watchers") -> None:
        self._watchers, self._loop = watchers, asyncio.get_running_loop()
        self._users: set[str] = set()
        self._changed: set[str] = set()
        self._woken = asyncio.Event()

    def __len__(self) -> int:
        """How many users are watched."""
        return len(self._users)

    def __contains__(self, user: str) -> bool:
        return user in self._users

    def add(self, user: str) -> None:
        """Watches a user, whose list counts as changed: the subscriber has not seen it."""
        self._users.add(user)
        self._watchers.add(user, self)
        self.note((user,))

    def discard(self, user: str) -> None:
        """Watches a user no more."""
        self._users.discard(user)
        self._changed.discard(user)
        self._watchers.discard(user, self)

    def close(self) -> None:
        """Watches nobody any more."""
        for user in tuple(self._users):
            self.discard(user)

    async def changed(self, timeout_s: float) -> set[str]:
        """Waits for changes; the users whose lists changed since the last call, nobody where the time runs out."""
        try:
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        except TimeoutError:
            return set()
        self._woken.clear()
        users, self._changed = self._changed, set()
        return users

    def note(self, users: Iterable[str]) -> None:
        """Says that lists of users changed."""
        self._changed.update(self._users.intersection(users))
        self._woken.set()

    def wake(self, users: Iterable[str]) -> None:
        """The same, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.note, users)


class Watchers:
    """Every subscriber, by the users that it watches."""

    def __init__(self) -> None:
        self._by_user: dict[str, set[Watch]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """A subscriber of the running loop, for as long as it is one."""
        watch = Watch(self)
        try:
            yield watch
        finally:
            watch.close()

    def add(self, user: str, watch: Watch) -> None:
        """Tells a subscriber of a user from now on."""
        with self._lock:
            self._by_user.setdefault(user, set()).add(watch)

    def discard(self, user: str, watch: Watch) -> None:
        """Tells it of the user no more."""
        with self._lock:
            watches = self._by_user.get(user, set())
            watches.discard(watch)
            if not watches:
                self._by_user.pop(user, None)

    def wake(self, users: Iterable[str] | None = None) -> None:
        """Says that lists of these users changed, of all where None."""
        told: dict[Watch, list[str]] = {}
        with self._lock:
            for user in self._by_user.keys() if users is None else self._by_user.keys() & set(users):
                for watch in self._by_user[user]:
                    told.setdefault(watch, []).append(user)
        for watch, changed in told.items():
            watch.wake(changed)
