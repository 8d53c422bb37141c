"""`momentrank backtest`: fit once on everything before an instant, then evaluate every later impression.

Runs the steps of `pipelines/chain.py` on tables in memory and registers nothing. Models are not updated after the
instant; the moment state is, unless `static`. Several seeds share one walk through the slices: what does not
depend on the seed is computed once.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import polars as pl

from features.config.project import Project
from features.config.sections import Promotion
from features.config.slices import Slices
from features.errors import ProjectError
from features.events.validation import Events
from features.schemas import INSTANT
from features.state import MomentState, SliceEvents, start
from models.evaluation.evaluate import EvaluationResult
from models.evaluation.seed_variance import gain, seed_variance
from models.ranker import Ranker
from pipelines import chain
from pipelines.deployment import Deployment
from pipelines.held_out_items import hold_out

Progress = Callable[[dict[str, Any]], None]
_TIMES = {"items": "known_at", "impressions": "shown_at", "interactions": "known_at"}


def backtest(
    deployment: Deployment,
    after: datetime,
    *,
    static: bool = False,
    new_items: float | None = None,
    seeds: Sequence[int] = (),
) -> dict[str, Any]:
    """Evaluate the impressions from `after` on with models fitted on those before it.

    `static`: the moment state is frozen at `after`, too. `new_items`: share of items to hold out (see `hold_out`),
    drawn with the first seed. `seeds`: by default the project's; metrics are the first seed's, and with several,
    `seed_variance` has the mean and deviation of each scorer over seeds.

    Returns `{"impressions", "skipped", "scorers", "segments", "left_out", "gain", "seed_variance"?, "versions",
    "seconds"}`. Raises ProjectError if there are no impressions before `after` or none from it on.
    """
    project, stages = deployment.project, Stages(deployment.progress.detail)
    seeds = seeds or (project.seed,)
    folder = deployment.fits(f"backtest-{uuid4().hex}")
    trainers = chain.Trainers(deployment.engine, project.scale.trainers, project.scale.gpus, deployment.cache)
    with stages.timed("all"):
        with stages.timed("ingest"):
            events = deployment.ingest()
            events = replace(events, impressions=chain.labelled(events.impressions))
            if new_items is not None:
                events = hold_out(events, new_items, after, seeds[0])
        earlier, later = slices_around(after, events.impressions["shown_at"], project.slices)
        with stages.timed("item_vectors"):
            vectors = chain.item_vectors(events.items, project.interest, deployment.settings.cache)
        fits = [Fit(project, seed, folder / str(seed), trainers, deployment.watch) for seed in seeds]
        vectors = chain.with_queries(
            vectors,
            start(project.slices.start, project.behaviour),
            events.impressions,
            project.interest,
            deployment.settings.cache,
        )
        walk = Walk(project, chain.timely(events.interactions, project.source), vectors, fits, stages)
        try:
            for slice, until in earlier:
                walk.learn(slice, _part(events, slice, pl.col("at") < after), until)
            with stages.timed("ranker"):
                rankers = [fit.rankers() for fit in fits]
            fitted = walk.state
            scores = []
            for slice, until in later:
                part = _part(events, slice, pl.col("at") >= after)
                scores.append(walk.score(part, until, rankers, fitted, static=static))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        with stages.timed("evaluation"):
            results = [
                chain.evaluate_slice(
                    pl.concat(parts),
                    project.items.categorical,
                    project.evaluation,
                    project.promotion,
                    project.seed,
                )
                for parts in zip(*scores, strict=True)
            ]
            figures = _figures(results, project.promotion, project.seed)
    deployment.tell(", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.seconds.items()))
    full, _ = rankers[0]
    versions = {
        "after": after.isoformat(),
        "static": static,
        "new_items": new_items,
        "seeds": list(seeds),
        "interest": f"fitted on {len(earlier)} slices until {fits[0].slice}",
        "ranker": f"{len(full.columns)} features, {full.info['best_iteration']} rounds",
    }
    return {**figures, "versions": versions, "seconds": stages.seconds}


def slices_around(
    after: datetime, shown_at: pl.Series, slices: Slices
) -> tuple[list[tuple[str, datetime]], list[tuple[str, datetime]]]:
    """(slice, end) before `after` and from it on. A slice that contains `after` is split there and is in both."""
    first, last = shown_at.min(), shown_at.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime) or not first < after <= last:
        raise ProjectError(
            f"--after {after.isoformat()} leaves no impressions to fit on or none to evaluate: choose an instant "
            f"between the first, {first!s}, and the last, {last!s}"
        )
    windows = [
        (key, *slices.window(key)) for key in slices.keys(slices.start, last + timedelta(microseconds=1))
    ]
    earlier = [(key, min(end, after)) for key, begin, end in windows if begin < after]
    return earlier, [(key, end) for key, _, end in windows if end > after]


class Stages:
    """Measures the seconds of each stage and reports them to `detail`."""

    def __init__(self, detail: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._detail = detail

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        started = monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + monotonic() - started, 3)
        self._detail(f"{name}: {self.seconds[name]:.1f} s so far")


class Fit:
    """One seed's interest model and ranking datasets."""

    def __init__(
        self,
        project: Project,
        seed: int,
        folder: Path,
        trainers: chain.Trainers,
        watch: Callable[[str], Progress],
    ) -> None:
        self.project, self.seed = project, seed
        self.version: Path | None = None
        self.slice: str | None = None
        """The last slice that `version` was fitted on."""
        self._config = chain.interest_config(project.interest, project.behaviour, seed)
        self._folder, self._trainers, self._watch = folder, trainers, watch
        self._window: deque[pl.DataFrame] = deque(maxlen=project.ranker.window)

    def dataset(
        self, labels: pl.DataFrame, features: pl.DataFrame, inputs: chain.InterestInput
    ) -> pl.DataFrame:
        """A slice's ranking dataset, with interest scores by the current version."""
        scores = chain.interest_scores(inputs, self.version, self.slice, self._trainers.cache)
        return chain.assemble(labels, features, scores)

    def learn(self, slice: str, dataset: pl.DataFrame, inputs: chain.InterestInput) -> None:
        """Add a slice's ranking dataset to the window; fine-tune on the slice if it has clicks."""
        self._window.append(dataset.with_columns(slice=pl.lit(slice)))
        if dataset["clicked"].any():
            report = self._watch(f"interest_model {slice}, seed {self.seed}")
            before, folder = self.version, self._folder / slice
            self.version, _ = chain.fine_tune(inputs, self._config, self._trainers, folder, before, report)
            self.slice = slice
            if before:
                shutil.rmtree(before.parent)

    def rankers(self) -> tuple[Ranker, Ranker]:
        """Fit the ranker, and the ranker without text, on the window of newest ranking datasets."""
        dataset = pl.concat(self._window, how="diagonal")
        return chain.fit_rankers(dataset, self.project.ranker, self.project.labels, self.seed)


class Walk:
    """A walk through the slices that updates the moment state and all fits."""

    def __init__(
        self,
        project: Project,
        interactions: pl.DataFrame,
        vectors: pl.DataFrame,
        fits: Sequence[Fit],
        stages: Stages,
    ) -> None:
        self.state = start(project.slices.start, project.behaviour)
        self._project, self._vectors, self._fits, self._stages = project, vectors, fits, stages
        self._interactions = interactions
        """All interactions that count for labels, from every slice."""

    def learn(self, slice: str, events: SliceEvents, until: datetime) -> None:
        """Score a slice's events with each fit, then fit on them, and advance the state to `until`."""
        datasets, inputs = self._datasets(events, until, self._labels(events))
        with self._stages.timed("interest_model"):
            for fit, dataset in zip(self._fits, datasets, strict=True):
                fit.learn(slice, dataset, inputs)

    def score(
        self,
        events: SliceEvents,
        until: datetime,
        rankers: Sequence[tuple[Ranker, Ranker]],
        fitted: MomentState,
        *,
        static: bool,
    ) -> list[pl.DataFrame]:
        """Scores of a slice's events by every scorer, one table per fit. Advances the state unless `static`.

        `fitted`: the state at the end of fitting; a static backtest reads its features from it.
        """
        labels = self._labels(events)
        if static:
            self.state, events = fitted, _shown_at(events, fitted.at)
        with self._stages.timed("features"):
            background = chain.background(self.state, events, self._project.evaluation, fitted)
        datasets, _ = self._datasets(events, until, labels)
        return [
            chain.score_slice(dataset, *pair, background, fit.seed)
            for dataset, pair, fit in zip(datasets, rankers, self._fits, strict=True)
        ]

    def _labels(self, events: SliceEvents) -> pl.DataFrame:
        return chain.attribute(events.impressions, self._interactions, self._project.labels)

    def _datasets(
        self, events: SliceEvents, until: datetime, labels: pl.DataFrame
    ) -> tuple[list[pl.DataFrame], chain.InterestInput]:
        before = self.state
        with self._stages.timed("features"):
            features, self.state = chain.lookup_and_update(before, events, until, self._vectors)
        with self._stages.timed("interest_scores"):
            inputs = chain.interest_input(before, events, labels)
            return [fit.dataset(labels, features, inputs) for fit in self._fits], inputs


def _part(events: Events, slice: str, when: pl.Expr) -> SliceEvents:
    """The events of a slice whose instant, column `at`, fulfils an expression."""
    tables = {
        name: getattr(events, name).filter(pl.col("slice") == slice).with_columns(at=pl.col(time))
        for name, time in _TIMES.items()
    }
    return SliceEvents(**{name: table.filter(when).drop("slice", "at") for name, table in tables.items()})


def _shown_at(events: SliceEvents, at: datetime) -> SliceEvents:
    """The impressions as if all were shown at `at`, without items and interactions."""
    impressions = events.impressions.with_columns(shown_at=pl.lit(at, INSTANT))
    return SliceEvents(events.items.clear(), impressions, events.interactions.clear())


def _figures(results: Sequence[EvaluationResult], promotion: Promotion, seed: int) -> dict[str, Any]:
    """The first seed's metrics, with intervals over impressions; with several seeds, `seed_variance`, too."""
    first = results[0]
    figures = {
        **first.as_json(),
        "skipped": first.skipped,
        "segments": first.segments_as_json(),
        "left_out": dict(first.left_out),
        "gain": gain(first, promotion, seed),
    }
    return figures | ({"seed_variance": seed_variance(results)} if len(results) > 1 else {})
