"""Promotion: compare champion and challenger on the same unseen impressions and move the champion alias."""

from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.evaluation.evaluate import calibration, calibration_error
from models.evaluation.experiment import compare, user_sums
from models.evaluation.promotion import Decision, decide
from models.prequential import promotion_values
from models.registry.registry import Registry
from models.registry.versions import Version
from pipelines.lake import Lake
from pipelines.slice_tables import SliceTables


class Outcome(NamedTuple):
    """The decision, whether the alias was moved, and the row for table `promotion`."""

    decision: Decision
    promoted: bool
    row: pl.DataFrame


def promote(lake: Lake, registry: Registry, version_or_alias: str, reason: str) -> str:
    """Make a version the champion by hand and return it.

    Raises ModelError if it reads columns that this project's tables do not have.
    """
    table = "ranking_dataset"
    if lake.slices(table):
        columns = registry.load_ranker(version_or_alias).columns
        missing = sorted({*columns} - {*lake.scan(table).collect_schema().names()})
        if missing:
            raise ModelError(
                f"{registry.name('ranker')} version {version_or_alias} reads {len(missing)} columns that the tables "
                f"of this project do not have ({', '.join(missing[:3])}): another project registered it under this "
                "name. `momentrank history` lists this project's versions"
            )
    return registry.promote(version_or_alias, reason)


def evaluated_version(lake: Lake, slice: str) -> Version | None:
    """The ranker version evaluated on a slice, or None."""
    if not lake.has("evaluation_scores", slice):
        return None
    versions = lake.read("evaluation_scores", [slice], ("ranker_version", "ranker_slice")).unique()
    return Version(*versions.row(0)) if versions.height else None


def challenge(tables: SliceTables, registry: Registry, slice: str) -> Outcome | str:
    """Let the version evaluated on the slice challenge the champion. Returns the reason if there is nothing to decide.

    Versions that another run registers meanwhile are ignored. If the champion changed meanwhile, it stays.
    """
    lake, project = tables.lake, tables.project
    challenger, champion = evaluated_version(lake, slice), registry.champion()
    if challenger is None or (champion and champion.slice >= challenger.slice):
        return "the champion is as new as the challenger" if champion else "there is no challenger yet"
    scores = lake.read("evaluation_scores", [slice])
    values = promotion_values(
        lake.read("ranking_dataset", [slice]),
        scores,
        registry.load_ranker(champion.version) if champion else None,
        project.items.categorical,
        project.evaluation,
        project.promotion.guard,
    )
    decision = decide(
        values,
        project.promotion,
        project.seed,
        calibration_error=calibration_error(calibration(scores["click_probability"], scores["clicked"])),
        champion="champion" if champion else None,
    )
    figures = decision.figures()
    registry.tag("ranker", challenger.version, "promotion", figures["reasons"])
    before = champion.version if champion else None
    promoted = decision.promote and registry.set_champion(challenger.version, before, figures["reasons"])
    row = {
        "challenger": challenger.version,
        "challenger_slice": challenger.slice,
        "champion_before": before,
        "promoted": promoted,
        **figures,
    }
    types = {"champion_before": pl.String, "guard_slack": pl.Float64}
    return Outcome(decision, promoted, pl.DataFrame([row], schema_overrides=types))


def experiment_figures(tables: SliceTables, slice: str) -> pl.DataFrame | None:
    """The experiment's figures (`experiment.compare`) from its start to the slice's end; None without an experiment."""
    lake, project = tables.lake, tables.project
    config, slices = project.experiment, project.slices
    if not config.challenger_share or config.since is None or slice < slices.key(config.since):
        return None
    keys = [key for key in lake.slices("candidates") if slices.key(config.since) <= key <= slice]
    candidates = lake.read("candidates", keys, ["user_id", "impression_id", "as_of", "clicked", "label"])
    users = user_sums(candidates.filter(pl.col("as_of") >= config.since))
    return compare(users, config, project.seed)
