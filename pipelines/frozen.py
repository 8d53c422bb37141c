"""Judge a project as papers do: fit on everything shown before an instant, then judge every list after it.

Nothing of it is registered. The functions are the assets' own; only the loop is different: the models stop at
the instant, while the moment state goes on advancing (strictly before each list), unless it is static.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import Any

import polars as pl

from features.behaviour import read_features
from features.errors import ProjectError
from features.events import Events
from features.labels import attribute
from features.ranking_dataset import assemble
from features.state import MomentState, SliceEvents, advance, start
from models.interest_input import interest_config, interest_input, interest_scores, item_vectors
from models.judging import fit_rankers, judge_slice, score_slice
from models.ranker import Ranker
from pipelines.deployment import Deployment


class _Bench:
    """What the walk over the slices carries along."""

    def __init__(self, deployment: Deployment, found: Events) -> None:
        self.deployment = deployment
        self.project = deployment.project
        self.found = found
        self.state: MomentState = start(deployment.project)
        self.vectors = pl.DataFrame()
        self.version: Path | None = None
        self.fitted_until: str | None = None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and say that it runs."""
        began = monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + monotonic() - began, 3)
        self.deployment.tell(f"{name}: {self.seconds[name]:.1f} s so far")


def evaluate_frozen(deployment: Deployment, frozen_after: datetime, static: bool = False) -> dict[str, Any]:
    """`{"impressions", "skipped", "scorers", "segments", "versions", "seconds"}` of the lists from `frozen_after` on.

    `static`: the moment state stops too, so nothing is learnt from the judged period.
    """
    began = monotonic()
    found = deployment.ingest()
    bench = _Bench(deployment, found)
    bench.seconds["ingest"] = round(monotonic() - began, 3)
    earlier, later = _stretches(bench, frozen_after)
    with bench.stage("item_vectors"):
        bench.vectors = item_vectors(found.items, bench.project, deployment.settings.cache)
    work = Path(mkdtemp(prefix="frozen-", dir=deployment.settings.checkpoints))
    try:
        datasets = [_learn(bench, slice, until, work / slice) for slice, until in earlier]
        with bench.stage("ranker"):
            window = datasets[-bench.project.ranker.window :]
            rankers = fit_rankers(pl.concat(window, how="diagonal"), bench.project)
        known = bench.state
        scored = [_score(bench, until, rankers, known, static) for _, until in later]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    with bench.stage("evaluation"):
        judgement = judge_slice(pl.concat(scored), bench.project)
    bench.seconds["all"] = round(monotonic() - began, 3)
    return {
        **judgement.as_json(),
        "skipped": judgement.skipped,
        "segments": {name: judgement.as_json(name)["scorers"] for name in ("new_users", "new_items")},
        "versions": {
            "frozen_after": frozen_after.isoformat(),
            "static": static,
            "interest": f"fitted on {len(earlier)} slices until {bench.fitted_until}",
            "ranker": f"{len(rankers[0].columns)} features, {rankers[0].info['best_iteration']} rounds",
        },
        "seconds": bench.seconds,
    }


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


def _dataset(bench: _Bench, state: MomentState, events: SliceEvents, labels: pl.DataFrame) -> pl.DataFrame:
    project = bench.project
    with bench.stage("features"):
        table = read_features(state, events, project, bench.vectors)
    with bench.stage("interest_scores"):
        given = interest_input(state, events, project)
        scores = interest_scores(given, bench.version, bench.fitted_until, bench.deployment.settings.cache)
    return assemble(labels, table, scores)


def _learn(bench: _Bench, slice: str, until: datetime, place: Path) -> pl.DataFrame:
    """One stretch before the instant: score it, then learn from it, then remember it."""
    from models.interest.training import fine_tune

    events = _until(bench, until)
    labels = attribute(events.impressions, bench.found.interactions.drop("slice"), bench.project.labels)
    dataset = _dataset(bench, bench.state, events, labels).with_columns(slice=pl.lit(slice))
    if labels["clicked"].any():
        with bench.stage("interest_model"):
            given = interest_input(bench.state, events, bench.project, labels)
            model = fine_tune(
                given.texts,
                given.moments,
                interest_config(bench.project),
                start_from=bench.version,
                checkpoint=place / "training",
                cache=bench.deployment.settings.cache,
                progress=bench.deployment.watch(f"interest_model {slice}"),
            )
            model.save(place / "version")
            bench.version, bench.fitted_until = place / "version", slice
    with bench.stage("moment_state"):
        bench.state = advance(bench.state, events, until, bench.project)
    return dataset


def _score(
    bench: _Bench, until: datetime, rankers: tuple[Ranker, Ranker], known: MomentState, static: bool
) -> pl.DataFrame:
    """One stretch after the instant under every scorer."""
    events = _until(bench, until)
    labels = attribute(events.impressions, bench.found.interactions.drop("slice"), bench.project.labels)
    if static:
        # Shown all at the instant itself, nothing of the judged period comes strictly before.
        shown = events.impressions.with_columns(shown_at=pl.lit(known.at, pl.Datetime("us", "UTC")))
        alone = SliceEvents(events.items.clear(), shown, events.interactions.clear())
        dataset = _dataset(bench, known, alone, labels)
    else:
        dataset = _dataset(bench, bench.state, events, labels)
    with bench.stage("moment_state"):
        bench.state = advance(bench.state, events, until, bench.project)
    return score_slice(dataset, *rankers, known, bench.project)
