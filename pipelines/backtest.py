"""Judge a project as papers do: fit on everything shown before an instant, then judge every list after it.

Nothing of it is registered. The functions are the assets' own; only the loop is different: the models stop at
the instant, while the moment state goes on advancing (strictly before each list), unless it is static. Several
seeds share one walk over the slices: what does not depend on a seed is computed once.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import Any

import polars as pl

from features.behaviour import read_and_advance
from features.errors import ProjectError
from features.events import Events
from features.labels import attribute, timely
from features.project import Project
from features.ranking_dataset import assemble
from features.state import MomentState, SliceEvents, start
from features.versions import versions
from models import baselines
from models.evaluation import ALL, Judgement
from models.interest_input import (
    InterestInput,
    interest_config,
    interest_input,
    interest_scores,
    item_vectors,
)
from models.judging import fit_rankers, judge_slice, score_slice
from models.ranker import Ranker
from models.seed_variance import gain, spread
from pipelines.deployment import Deployment
from pipelines.holdout import hold_out


class _Bench:
    """What the walk over the slices carries along, whatever the seed."""

    def __init__(self, deployment: Deployment, found: Events) -> None:
        self.deployment = deployment
        self.project = deployment.project
        self.found = found
        self.state: MomentState = start(deployment.project)
        self.vectors = pl.DataFrame()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and say that it runs."""
        began = monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + monotonic() - began, 3)
        self.deployment.tell(f"{name}: {self.seconds[name]:.1f} s so far")


class _Fit:
    """One seed's interest model as the walk goes on, and the stretches that its ranker will read."""

    def __init__(self, project: Project, seed: int, place: Path) -> None:
        self.project = project.model_copy(update={"seed": seed})
        self.place = place
        self.version: Path | None = None
        self.fitted_until: str | None = None
        self.window: deque[pl.DataFrame] = deque(maxlen=project.ranker.window)


def evaluate_frozen(
    deployment: Deployment,
    frozen_after: datetime,
    *,
    static: bool = False,
    new_items: float | None = None,
    seeds: Sequence[int] = (),
) -> dict[str, Any]:
    """Figures of the lists from `frozen_after` on, by models fitted with the first of `seeds` on what came before.

    `static`: the moment state stops too, so nothing is learnt from the judged period. `new_items`: that share
    of the items, drawn with the first seed, is unknown before the instant and alone in the lists after it.
    Without `seeds` the project's own is used; with several, `spread` holds each scorer's mean over them.

    Returns `{"impressions", "skipped", "scorers", "segments", "left_out", "gain", "spread"?, "versions", "seconds"}`.
    """
    began = monotonic()
    seeds = seeds or (deployment.project.seed,)
    found = deployment.ingest()
    if new_items is not None:
        found = hold_out(found, new_items, frozen_after, seeds[0])
    bench = _Bench(deployment, found)
    bench.seconds["ingest"] = round(monotonic() - began, 3)
    earlier, later = _stretches(bench, frozen_after)
    with bench.stage("item_vectors"):
        bench.vectors = item_vectors(found.items, bench.project, deployment.settings.cache)
    work = Path(mkdtemp(prefix="frozen-", dir=deployment.settings.checkpoints))
    try:
        fits = [_Fit(bench.project, seed, work / str(seed)) for seed in seeds]
        for slice, until in earlier:
            _learn(bench, fits, slice, until)
        with bench.stage("ranker"):
            rankers = [fit_rankers(pl.concat(fit.window, how="diagonal"), fit.project) for fit in fits]
        known = bench.state
        scored = [_score(bench, fits, rankers, until, known, static) for _, until in later]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    with bench.stage("evaluation"):
        judgements = [judge_slice(pl.concat(parts), bench.project) for parts in zip(*scored, strict=True)]
        figures = _figures(judgements, bench.project)
    bench.seconds["all"] = round(monotonic() - began, 3)
    full, _ = rankers[0]
    return {
        **figures,
        "versions": {
            "frozen_after": frozen_after.isoformat(),
            "static": static,
            "new_items": new_items,
            "seeds": list(seeds),
            "interest": f"fitted on {len(earlier)} slices until {fits[0].fitted_until}",
            "ranker": f"{len(full.columns)} features, {full.info['best_iteration']} rounds",
        },
        "seconds": bench.seconds,
    }


def _figures(judgements: Sequence[Judgement], project: Project) -> dict[str, Any]:
    """The first seed's figures, with intervals over lists; over several seeds, means and deviations too."""
    first = judgements[0]
    figures = {
        **first.as_json(),
        "skipped": first.skipped,
        "segments": {
            name: first.as_json(name)["scorers"]
            for name in first.table["segment"].unique(maintain_order=True)
            if name != ALL
        },
        "left_out": dict(first.left_out),
        "gain": gain(first, project),
    }
    return figures | ({"spread": spread(judgements)} if len(judgements) > 1 else {})


def _stretches(
    bench: _Bench, frozen_after: datetime
) -> tuple[list[tuple[str, datetime]], list[tuple[str, datetime]]]:
    """(slice, end) of what comes before the instant and after it; a slice it falls into is cut there."""
    slices, shown = bench.project.slices, bench.found.impressions["shown_at"]
    first, last = shown.min(), shown.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime) or not first < frozen_after <= last:
        raise ProjectError(
            f"--frozen-after {frozen_after.isoformat()} leaves nothing to fit on or nothing to judge: "
            f"lists were shown from {first!s} to {last!s}"
        )
    keys = slices.keys(slices.start, last + timedelta(microseconds=1))
    windows = [(key, *slices.window(key)) for key in keys]
    earlier = [(key, min(end, frozen_after)) for key, begin, end in windows if begin < frozen_after]
    return earlier, [(key, end) for key, _, end in windows if end > frozen_after]


def _until(bench: _Bench, until: datetime) -> SliceEvents:
    """Events of [state.at, until); items known earlier belong to the first stretch."""

    def part(table: pl.DataFrame, at: str) -> pl.DataFrame:
        since = bench.state.at
        begun = pl.lit(since == bench.project.slices.start) if at == "known_at" else pl.lit(False)
        return table.filter((begun | (pl.col(at) >= since)) & (pl.col(at) < until)).drop("slice")

    found = bench.found
    return SliceEvents(
        part(found.items, "known_at"),
        part(found.impressions, "shown_at"),
        part(found.interactions, "known_at"),
    )


def _read(
    bench: _Bench, events: SliceEvents, until: datetime, labels: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, InterestInput]:
    """Features of a stretch, and what the interest model reads of it; labels only where it is to learn.

    The state goes on to the stretch's end.
    """
    before = bench.state
    with bench.stage("features"):
        features, bench.state = read_and_advance(before, events, until, bench.project, bench.vectors)
    with bench.stage("interest_scores"):
        return features, interest_input(before, events, bench.project, labels)


def _dataset(
    bench: _Bench, fit: _Fit, labels: pl.DataFrame, features: pl.DataFrame, given: InterestInput
) -> pl.DataFrame:
    """A stretch as this seed's ranker reads it."""
    with bench.stage("interest_scores"):
        scores = interest_scores(given, fit.version, fit.fitted_until, bench.deployment.settings.cache)
    return assemble(labels, features, scores)


def _labels(bench: _Bench, events: SliceEvents) -> pl.DataFrame:
    known = timely(bench.found.interactions.drop("slice"), bench.project.source)
    return attribute(events.impressions, known, bench.project.labels)


def _learn(bench: _Bench, fits: Sequence[_Fit], slice: str, until: datetime) -> None:
    """One stretch before the instant: score it, then learn from it, then remember it."""
    events = _until(bench, until)
    labels = _labels(bench, events)
    features, given = _read(bench, events, until, labels)
    for fit in fits:
        dataset = _dataset(bench, fit, labels, features, given)
        fit.window.append(dataset.with_columns(slice=pl.lit(slice)))
        if labels["clicked"].any():
            with bench.stage("interest_model"):
                _fine_tune(bench, fit, given, slice)


def _fine_tune(bench: _Bench, fit: _Fit, given: InterestInput, slice: str) -> None:
    from models.interest.training import fine_tune

    place = fit.place / slice
    model = fine_tune(
        given.items,
        given.moments,
        interest_config(fit.project),
        start_from=fit.version,
        checkpoint=place / "training",
        cache=bench.deployment.settings.cache,
        progress=bench.deployment.watch(f"interest_model {slice}, seed {fit.project.seed}"),
    )
    model.save(place / "version")
    fit.version, fit.fitted_until = place / "version", slice


def _score(
    bench: _Bench,
    fits: Sequence[_Fit],
    rankers: Sequence[tuple[Ranker, Ranker]],
    until: datetime,
    known: MomentState,
    static: bool,
) -> list[pl.DataFrame]:
    """One stretch after the instant under every scorer, once a seed."""
    events = _until(bench, until)
    labels = _labels(bench, events)
    if static:
        # Shown all at the instant itself, nothing of the judged period comes strictly before.
        shown = events.impressions.with_columns(shown_at=pl.lit(known.at, pl.Datetime("us", "UTC")))
        bench.state = known
        events = SliceEvents(events.items.clear(), shown, events.interactions.clear())
    items = versions(bench.state.items, events.items)
    with bench.stage("features"):
        measured = baselines.measure(bench.state, events, bench.project)
    features, given = _read(bench, events, until)
    return [
        score_slice(_dataset(bench, fit, labels, features, given), *pair, measured, known, items, fit.project)
        for fit, pair in zip(fits, rankers, strict=True)
    ]
