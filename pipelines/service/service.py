"""The live service: start, rank, accept events, follow the champion, stop."""

import gc
import logging
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import catalogue
from features.config.slices import instant, microseconds
from features.errors import TableError
from features.exploration import explore
from features.live import Answer, Request
from features.schemas import Impressions
from features.sources.item_rows import normalised
from features.state.histories import SKIPPED
from models.evaluation.experiment import in_challenger
from models.explanation.sentences import because_of, sentences
from models.interest_input import query_rows
from models.live_ranking import Ranked
from models.ranker import Ranker
from pipelines.deployment import Deployment
from pipelines.lake import STATE
from pipelines.landing import open_landing
from pipelines.service.champion_follower import Champion, Follower, Serving, load
from pipelines.service.event_intake import Clock, Intake, Known, Receipt, Refused, clock_from
from pipelines.service.journal import Journal
from pipelines.service.resident import Resident
from pipelines.service.wire import Event, InteractionEvent, ItemEvent, RankRequest

_log = logging.getLogger(__name__)
_FORMATS = ("metarank", "newsroom")
"""Source formats that can read the journal."""
_EVENTS = ("impressions", "interactions")
_WARM = 3
"""Users that are ranked for to warm up."""


@dataclass(frozen=True)
class Limits:
    """Limits beyond which requests are refused."""

    waiting_ranks: int = 64
    waiting_events: int = 1_000
    body_bytes: int = 4 << 20
    body_seconds: float = 10.0
    poll_seconds: float = 5.0
    rotate_seconds: float = 900.0


@dataclass(frozen=True)
class _Ranking:
    """A ranked request, to be read without the lock."""

    ranker: Ranker
    request: Request
    answer: Answer
    ranked: Ranked
    order: list[int]
    """Numbers of the candidates that are returned, in the order to show them."""
    ranks: NDArray[np.int64]
    """Their ranks, from 0: increasing unless the list explores."""
    propensity: NDArray[np.float64] | None
    """Their probabilities at these positions; None without exploration."""
    past: pl.Series | None
    """As `LiveModels.past_behind`, in this order; None without reasons."""
    versions: pl.DataFrame
    """Item versions, by the rows of `answer.versions`."""

    def described(self, column: str) -> list[Any]:
        """A column of the item versions, in this order; None for unknown items."""
        values = self.versions[column]
        return [None if row < 0 else values[row] for row in self.answer.versions[self.order].tolist()]


class NotReady(RuntimeError):
    """The state or the models are still loading."""


class Service:
    """A deployment that answers requests. For tests: `until`, the slice whose state is loaded, and `clock`."""

    def __init__(
        self, deployment: Deployment, limits: Limits | None = None, until: str | None = None, clock: Clock | None = None
    ) -> None:  # fmt: skip
        self.deployment, self.project = deployment, deployment.project
        self.limits = limits or Limits()
        self.problem = ""
        """Why the service did not start; empty if it did, or is still starting."""
        self.ready = False
        """Whether requests are answered."""
        self._until, self._clock = until, clock
        self._resident: Resident | None = None
        self._stop = threading.Event()
        self._random = np.random.default_rng()

    def start(self) -> None:
        """Load the state, replay the journal, load and warm the models."""
        began = time.monotonic()
        settings, project = self.deployment.settings, self.project
        landing = open_landing(project, settings.home) if project.source.format in _FORMATS else None
        self.lands = landing is not None and not landing.url
        self.journal = Journal(
            settings.home / "journal" / project.name, landing.folder if landing and self.lands else None
        )
        known = Known()
        resident = self._load_state(known)
        replayed = resident.replay(self.journal.blocks())
        self._prune()
        self.clock = self._clock or clock_from(project.slices, resident.live.at)
        self._catalogue = catalogue(project.behaviour)
        versions = self._look(resident)
        if versions is None:
            raise TableError(
                f"no ranker is registered yet: momentrank run {settings.project} fits one, then start the service again"
            )
        self._resident = resident
        self._swap(self._prepare(versions))
        self._intake = Intake(
            self.journal,
            known,
            self.clock,
            lambda: resident.live.at,
            resident.apply,
            self.limits.waiting_events,
        )
        self.follower = Follower(
            lambda: self._look(resident), self._prepare, self._swap, versions, self.limits.poll_seconds
        )
        self.follower.start()
        threading.Thread(target=self._rotate, name="rotate", daemon=True).start()
        # What lives as long as the service is not looked at by the garbage collector again.
        gc.collect()
        gc.freeze()
        self.ready = True
        _log.info("ready after %.1f s, %d events replayed", time.monotonic() - began, replayed)

    def _load_state(self, known: Known) -> Resident:
        """The state after the newest slice, or after `until`, and all later events of the lake."""
        lake, deployment = self.deployment.lake, self.deployment
        slices = [key for key in lake.slices(f"{STATE}/items") if self._until is None or key <= self._until]
        if not slices:
            raise TableError(
                f"there is no moment state to serve from: run `momentrank run {deployment.settings.project}` first"
            )
        self.slice = slices[-1]
        tables = deployment.slices
        state, cache = tables.state_after(self.slice), deployment.settings.cache
        vectors = tables.vectors_for(state, Impressions.create_empty(), self.slice, cache)
        resident = Resident(state, vectors, self.project, deployment.privacy, known, cache)
        later = [key for key in lake.slices("impressions") if key > self.slice] if self._until is None else []
        for key in [self.slice, *later]:
            resident.note_ids(*(lake.read(name, [key]) if lake.has(name, key) else None for name in _EVENTS))
        for key in later:
            resident.add_slice(deployment.slices.events(key))
        return resident

    def close(self) -> None:
        """Write waiting events, close the journal, stop."""
        self._stop.set()
        if self.ready:
            self.ready = False
            self.follower.close()
            self._intake.close()

    @property
    def resident(self) -> Resident:
        """The state. Raises NotReady."""
        if self._resident is None or not self.ready:
            raise NotReady
        return self._resident

    def accept(self, events: Sequence[Event]) -> Future[Receipt]:
        """Queue events; see `Intake.submit`. Raises Refused."""
        resident = self.resident
        events = [
            event for event in events if isinstance(event, ItemEvent) or not resident.is_forgotten(event.user)
        ]
        for number, event in enumerate(events):
            if isinstance(event, ItemEvent):
                if all(field.name != self.project.items.title or not field.value for field in event.fields):
                    raise Refused(
                        f"{number}.fields", f"have no {self.project.items.title!r}: an item needs a title"
                    )
            elif isinstance(event, InteractionEvent) and event.value is None:
                graded = event.type in (*self.project.labels.graded, *self.project.features.valued)
                if graded and all(field.name != "value" for field in event.fields):
                    raise Refused(f"{number}.value", f"is missing: a {event.type!r} is counted by its value")
        return self._intake.submit(events)

    def rank(self, request: RankRequest) -> dict[str, Any]:
        """Rank a request's candidates."""
        resident = self.resident
        for name in request.context:
            if name not in self.project.context.categorical:
                declared = ", ".join(self.project.context.categorical) or "none"
                raise Refused(
                    f"context.{name}", f"is not declared under context.categorical; declared: {declared}"
                )
        user = self.deployment.privacy.stored(request.user_id)
        wanted_at = request.at
        query = self._query(request)
        near_to = None if query is None else query["vector"].to_numpy()[0]
        challenged = self._in_challenger(user)
        with resident.lock:
            at = self.clock() if wanted_at is None else wanted_at
            if wanted_at is not None and wanted_at <= resident.live.at:
                raise Refused("at", "is before the newest event: leave `at` out to rank now")
            at = max(at, resident.live.at + 1)
            items = request.candidates
            if items is None:
                past, _ = resident.live.histories.past(user, at)
                items = resident.pool.draw(past, at, request.muted, near_to)
            elif request.muted:
                items = [item for item in items if item not in request.muted]
            champion = resident.champion
            assert champion is not None  # a ready service has one
            challenger = champion.challenger if challenged else None
            if not items:
                return self._answer(champion, challenger is not None, [])
            context = tuple(
                (name, value)
                for name, values in request.context.items()
                for value in ([values] if isinstance(values, str) else values)
            )
            if query is not None and resident.live.queries is not None:
                resident.live.queries.learn(query)
                context += ((self.project.context.query, query["item_id"][0]),)
            k = request.k or (len(items) if request.candidates is not None else self.project.lists.k)
            lookup = Request(user, tuple(items), at, request.session_id, context)
            ranker = challenger or champion.ranker
            ranking = self._ranking(resident, champion, ranker, lookup, k, request.explain)
        return self._answer(champion, challenger is not None, self._rows(ranking, request.features))

    def similar(self, item: str, count: int) -> dict[str, Any]:
        """Items similar in text, and items clicked by the same users."""
        resident = self.resident
        with resident.lock:
            near = resident.pool.similar(item, resident.live.at + 1, count)
        together = resident.clicked_together(item, count)
        return {
            "text": [{"item_id": name, "similarity": round(value, 4)} for name, value in near],
            "clicked_together": [{"item_id": name, "users": users} for name, users in together],
        }

    def trending(self, attribute: str | None, value: str | None, count: int) -> list[dict[str, Any]]:
        """Items with the most decayed clicks, optionally of an attribute or of one of its values."""
        resident = self.resident
        with resident.lock:
            resident.pool.refresh(max(self.clock(), resident.live.at + 1))
            rows = resident.pool.trending
        if attribute:
            pair = pl.element().struct.field("name") == attribute
            if value:
                pair &= pl.element().struct.field("value") == value
            rows = rows.filter(pl.col("attributes").list.eval(pair).list.any())
        return rows.drop("attributes").head(count).to_dicts()

    def about(self, user: str) -> dict[str, Any]:
        """A user's newest moments and most clicked attribute values."""
        resident = self.resident
        stored = self.deployment.privacy.stored(user)
        with resident.lock:
            at = max(self.clock(), resident.live.at + 1)
            past, _ = resident.live.histories.past(stored, at)
            rows = resident.live.versions_of(past.items, at).tolist()
            found = resident.live.described.found
        moments, tastes = [], Counter[tuple[str, str]]()
        for item, action, when, row in zip(past.items, past.actions, past.at.tolist(), rows, strict=True):
            described = found.row(row, named=True) if row >= 0 else {"title": None, "attributes": []}
            moments.append({"item_id": item, "title": described["title"], "action": action, "at_us": when})
            if action != SKIPPED:
                tastes.update((pair["name"], pair["value"]) for pair in described["attributes"])
        return {
            "moments": moments[::-1][:50],
            "tastes": [{"name": n, "value": v, "clicks": c} for (n, v), c in tastes.most_common(20)],
        }

    def forget(self, user: str) -> None:
        """Leave a user out of memory, of restarts and of new slices; `momentrank forget` erases tables and logs."""
        self.resident.forget(user)

    def health(self) -> dict[str, Any]:
        """Versions that serve, and problems."""
        said: dict[str, Any] = {"ready": self.ready, "problems": [self.problem] if self.problem else []}
        if not self.ready:
            return said
        resident, champion = self.resident, self.resident.champion
        assert champion is not None
        problems = [self.follower.problem, self._intake.problem]
        return said | {
            "problems": [problem for problem in problems if problem],
            **self._serving(champion.versions, challenged=False),
            "challenger": champion.versions.challenger,
            "state_slice": self.slice,
            "newest_event_us": resident.live.at,
            "journal_lands": self.lands,
        }

    def _look(self, resident: Resident) -> Serving | None:
        """The ranker that should serve, and the newest interest model of earlier slices; None before any ranker."""
        slices = self.project.slices
        at = instant(resident.live.at) if self._until is None else slices.window(self._until)[1]
        key, registry = slices.key(at), self.deployment.registry
        ranker = registry.serving(slices.following(key))
        challenger = self.project.experiment.challenger if self.project.experiment.challenger_share else None
        return Serving(ranker, registry.latest("interest", before=key), challenger) if ranker else None

    def _prepare(self, versions: Serving) -> Champion:
        """Load a champion and rank with each of its rankers, so that they are warm and known to work."""
        assert self._resident is not None
        resident = self._resident
        settings = self.deployment.settings
        champion = load(
            self.deployment.registry, versions, resident.live, self.project.items.numeric, settings.cache
        )
        # Encode the items that arrived during the load now, while requests are still answered.
        self._catch_up(champion)
        for user in [*resident.users[:_WARM], ""]:
            with resident.lock:
                self._catch_up(champion)
                at = max(self.clock(), resident.live.at + 1)
                past, _ = resident.live.histories.past(user, at)
                items = resident.pool.draw(past, at, (), None)
                if not items:
                    continue
                lookup = Request(user, tuple(items), at)
                rankings = [
                    self._ranking(resident, champion, ranker, lookup, 1, explain=True)
                    for ranker in champion.rankers
                ]
            for ranking in rankings:
                self._rows(ranking, features=False)
        return champion

    def _swap(self, champion: Champion) -> None:
        assert self._resident is not None
        with self._resident.lock:
            self._catch_up(champion)
            self._resident.champion = champion

    def _catch_up(self, champion: Champion) -> None:
        """Give a champion the items that came while it was loaded."""
        assert self._resident is not None
        versions = self._resident.live.described.found
        new = champion.models.unknown(versions)
        champion.models.describe(versions, new, champion.models.embed(new) if new.height else None)

    def _rotate(self) -> None:
        while not self._stop.wait(self.limits.rotate_seconds):
            try:
                self.journal.rotate()
                self._prune()
            except Exception:  # a file that did not land lands at the next start
                _log.exception("the journal's file did not land, or old files were not deleted")

    def _prune(self) -> None:
        """Delete what the newest stored state covers from the journal, if the daily chain has its own copy."""
        slices = self.deployment.lake.slices(f"{STATE}/items") if self.lands else []
        if slices:
            self.journal.prune(microseconds(self.project.slices.window(slices[-1])[1]))

    def _query(self, request: RankRequest) -> pl.DataFrame | None:
        """The request's query and its vector (`query_rows`), if it is used."""
        text = request.query and pl.select(normalised(pl.lit(request.query))).item()
        if not text or (request.candidates is not None and not self.project.context.query):
            return None
        return query_rows(pl.Series([text]), self.project.interest)

    def _in_challenger(self, user: str) -> bool:
        share = self.project.experiment.challenger_share
        return share > 0 and bool(in_challenger(pl.Series([user]), share, self.project.seed)[0])

    def _answer(self, champion: Champion, challenged: bool, rows: list[dict[str, Any]]) -> dict[str, Any]:
        arm = {"arm": "challenger" if challenged else "champion"} if champion.challenger else {}
        versions = self._serving(champion.versions, challenged)
        return {"impression_id": f"live-{uuid.uuid4().hex}", **versions, **arm, "items": rows}

    @staticmethod
    def _serving(versions: Serving, challenged: bool) -> dict[str, Any]:
        return {
            "ranker": versions.challenger if challenged else versions.ranker.version,
            "interest": versions.interest.version if versions.interest else None,
        }

    def _ranking(
        self,
        resident: Resident,
        champion: Champion,
        ranker: Ranker,
        request: Request,
        k: int,
        explain: bool,
    ) -> _Ranking:
        """Rank a request's candidates; the caller holds the lock."""
        answer = resident.live.look_up(request)
        ranked = champion.models.rank(ranker, request, answer, resident.live.plan.columns)
        order, propensity, exploration = ranked.order[:k], None, self.project.exploration
        ranks = np.arange(len(order))
        if exploration.share:
            ranks, propensity = explore(len(order), exploration.share, exploration.near_best, self._random)
            order = [order[rank] for rank in ranks]
        past = champion.models.past_behind(request, answer, order) if explain else None
        versions = resident.live.described.found
        return _Ranking(ranker, request, answer, ranked, order, ranks, propensity, past, versions)

    def _rows(self, ranking: _Ranking, features: bool) -> list[dict[str, Any]]:
        ranker, ranked, order = ranking.ranker, ranking.ranked, ranking.order
        scores = pl.Series(ranked.score[order])
        likely = ranker.probability(scores) if ranker.calibration else None
        titles = ranking.described("title")
        rows = []
        for position, n in enumerate(order):
            interest = float(ranked.interest[n])
            row = {
                "item_id": ranking.request.items[n],
                "rank": int(ranking.ranks[position]) + 1,
                "title": titles[position],
                "rank_score": scores[position],
                "click_probability": None if likely is None else likely[position],
                "interest_score": None if math.isnan(interest) else interest,
            }
            if ranking.propensity is not None:
                row["propensity"] = float(ranking.propensity[position])
            if features:
                values = zip(ranker.columns, ranked.columns[n].tolist(), strict=True)
                row["features"] = {name: None if math.isnan(value) else value for name, value in values}
            rows.append(row)
        if ranking.past is not None:
            for row, reasons, past in zip(rows, self._reasons(ranking), ranking.past.to_list(), strict=True):
                row |= {"reasons": reasons, "because": because_of({"past": past})}
        return rows

    def _reasons(self, ranking: _Ranking) -> pl.Series:
        """One sentence per returned item."""
        ranker, order = ranking.ranker, ranking.order
        listed = pl.DataFrame(ranking.ranked.columns[order], schema=list(ranker.columns), orient="row")
        listed = listed.fill_nan(None)
        attributes = ranking.described("attributes")
        rows = listed.with_columns(
            pl.Series("attributes", attributes, ranking.versions.schema["attributes"]),
            rank=pl.Series(ranking.ranks + 1),
            candidates=pl.lit(len(ranking.request.items)),
            past=ranking.past,
        )
        return sentences(rows, ranker.contributions(listed), self._catalogue)
