"""Accept events: stamp them with the service's clock, write them to the journal, apply them to the state.

All waiting events are written and synced together (group commit). Stamps never decrease, so a slice made from the
journal has the events in the order in which the service knew them.
"""

import json
import logging
import queue
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from features.config.slices import Slices, instant, microseconds
from pipelines.service.journal import Journal
from pipelines.service.wire import Event, InteractionEvent, RankingEvent

Clock = Callable[[], int]
"""The service's time in microseconds."""
_log = logging.getLogger(__name__)
_REMEMBERED = 500_000
"""Ids of events and impressions that are kept to recognise repeats."""
_TOGETHER = 2_000
"""Events that are written and applied together."""


class Receipt(NamedTuple):
    """How many events were new."""

    accepted: int
    repeated: int
    """Events whose ids were accepted before."""


class Stamped(NamedTuple):
    """An accepted event; instants are microseconds."""

    event: Event
    id: str
    at: int
    """When it became known."""
    happened_at: int

    def line(self) -> str:
        """The event's line in the journal."""
        fields: dict[str, Any] = self.event.model_dump(exclude_none=True, exclude={"known_at"})
        fields["timestamp"] = _written(self.happened_at)
        if isinstance(self.event, InteractionEvent):
            fields |= {"id": self.id, "known_at": _written(self.at)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


class Refused(ValueError):
    """An event or request contradicts the state: the field, and the problem."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field, self.problem = field, problem


class Overloaded(RuntimeError):
    """Too many requests are waiting."""


class _Shown(NamedTuple):
    user: str
    items: frozenset[str]
    at: int


class Known:
    """Ids accepted before, and the impressions that interactions may name."""

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.shown: OrderedDict[str, _Shown] = OrderedDict()

    def first(self, kind: str, name: str) -> bool:
        """Add an id; return whether it is new."""
        if (kind, name) in self._ids:
            return False
        self._ids[kind, name] = None
        if len(self._ids) > _REMEMBERED:
            self._ids.popitem(last=False)
        return True

    def drop(self, kind: str, name: str) -> None:
        """Remove an id."""
        self._ids.pop((kind, name), None)
        if kind == "ranking":
            self.shown.pop(name, None)

    def show(self, name: str, user: str, items: frozenset[str], at: int) -> None:
        """Add an impression that interactions may name."""
        self.shown[name] = _Shown(user, items, at)
        if len(self.shown) > _REMEMBERED:
            self.shown.popitem(last=False)


class Intake:
    """The single writer. `apply` is called with events once they are on disk."""

    def __init__(
        self, journal: Journal, known: Known, clock: Clock, newest: Callable[[], int],
        apply: Callable[[Sequence[Stamped]], None], waiting: int,
    ) -> None:  # fmt: skip
        self._journal, self._known, self._clock, self._newest, self._apply = (
            journal,
            known,
            clock,
            newest,
            apply,
        )
        self._queue: queue.Queue[tuple[Sequence[Event], Future[Receipt]] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._work, name="intake", daemon=True)
        self.problem = self._unapplied = ""
        """Why events were not written or, until a restart, not applied; else empty."""
        self._thread.start()

    def submit(self, events: Sequence[Event]) -> Future[Receipt]:
        """Queue events; the future ends when they are on disk and in the state. Raises Overloaded."""
        future: Future[Receipt] = Future()
        try:
            self._queue.put_nowait((events, future))
        except queue.Full:
            raise Overloaded from None
        return future

    def close(self) -> None:
        """Write the waiting events, and stop."""
        self._queue.put(None)
        self._thread.join()
        self._journal.rotate()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, size, last = [first], len(first[0]), False
            while size < _TOGETHER:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                batch.append(more)
                size += len(more[0])
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: Sequence[tuple[Sequence[Event], Future[Receipt]]]) -> None:
        at = self._newest()
        accepted: list[Stamped] = []
        done: list[tuple[Future[Receipt], Receipt]] = []
        noted: list[tuple[str, str]] = []
        for events, future in batch:
            own: list[Stamped] = []
            ids: list[tuple[str, str]] = []
            try:
                for number, event in enumerate(events):
                    stamped = self._stamp(event, at, number, ids)
                    if stamped is not None:
                        own.append(stamped)
                        at = stamped.at
            except Refused as refused:
                for name in ids:
                    self._known.drop(*name)
                future.set_exception(refused)
                continue
            noted += ids
            accepted += own
            done.append((future, Receipt(len(own), len(events) - len(own))))
        try:
            if accepted:
                self._journal.write([stamped.line() for stamped in accepted])
            self.problem = self._unapplied
        except Exception as error:
            for name in noted:
                self._known.drop(*name)
            self.problem = f"{type(error).__name__}: {error}"
            _log.error("events cannot be accepted: %s", self.problem)
            for future, _ in done:
                future.set_exception(OSError(self.problem))
            return
        try:
            if accepted:
                self._apply(accepted)
        except Exception as error:
            # They are on disk: if they were refused, they would be sent and written again.
            self.problem = self._unapplied = (
                f"some events are on disk but not in memory, restart the service: {type(error).__name__}: {error}"
            )
            _log.exception("events were written but not applied")
        for future, receipt in done:
            future.set_result(receipt)

    def _stamp(self, event: Event, last: int, number: int, ids: list[tuple[str, str]]) -> Stamped | None:
        """The event under an instant that is not before `last`; None for a repeated one."""
        now = max(self._clock(), last)
        name = event.id or f"live-{uuid.uuid4().hex}"
        sent = event.known_at if isinstance(event, InteractionEvent) else event.timestamp
        at = happened = min(max(sent or now, last), now)
        if isinstance(event, InteractionEvent):
            shown = self._known.shown.get(event.ranking or "")
            if shown is not None:
                if event.user != shown.user:
                    raise Refused(f"{number}.user", "is not the user of the impression that ranking names")
                if event.item not in shown.items:
                    raise Refused(f"{number}.item", "is not in the impression that ranking names")
            happened = max(min(event.timestamp or at, at), shown.at if shown else 0)
            at = max(at, happened)
        if event.id is not None:
            if not self._known.first(event.event, name):
                return None
            ids.append((event.event, name))
        if isinstance(event, RankingEvent):
            self._known.show(name, event.user, frozenset(item.id for item in event.items), at)
        return Stamped(event, name, at, happened)


def _written(at: int) -> str:
    return instant(at).isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock_from(slices: Slices, known: int) -> Clock:
    """The machine's clock; after `slices.end`, a clock that starts at the newest known instant."""
    end = slices.end
    if end is None or microseconds(end) > _now():
        return _now
    since = time.monotonic_ns()
    return lambda: known + 1 + (time.monotonic_ns() - since) // 1000


def _now() -> int:
    return time.time_ns() // 1000
