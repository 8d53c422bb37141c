"""A slice's promotion: champion and challenger on the same unseen lists, and the alias moved if the rule says so."""

from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.evaluation.evaluate import calibration, calibration_error
from models.evaluation.promotion import Decision, decide
from models.prequential import promotion_values
from pipelines.deployment import Deployment


class Outcome(NamedTuple):
    """What was decided, whether the alias moved, and the row of table `promotion` that says so."""

    decision: Decision
    promoted: bool
    row: pl.DataFrame


def promote(deployment: Deployment, version_or_alias: str, reason: str) -> str:
    """Make a version the champion because a person says so; returns it.

    Raises ModelError for a version that reads columns which this project's tables do not have.
    """
    registry, table = deployment.registry, "ranking_dataset"
    if deployment.lake.slices(table):
        wanted = registry.load_ranker(version_or_alias).columns
        missing = sorted({*wanted} - {*deployment.lake.scan(table).collect_schema().names()})
        if missing:
            raise ModelError(
                f"{registry.name('ranker')} version {version_or_alias} reads {len(missing)} columns that the tables "
                f"of this project do not have ({', '.join(missing[:3])}): another project registered it under this "
                f"name. momentrank history {deployment.settings.project} lists this project's versions"
            )
    return registry.promote(version_or_alias, reason)


def challenge(deployment: Deployment, slice: str) -> Outcome | str:
    """Let the version that `evaluation` evaluated on the slice challenge the champion; or why there is nothing to decide.

    A version that another run registers meanwhile is not taken, nor is a champion replaced that was made meanwhile.
    """
    project, registry = deployment.project, deployment.registry
    challenger, champion = deployment.evaluated(slice), deployment.champion()
    if challenger is None or (champion and champion.slice >= challenger.slice):
        return "the champion is as new as the challenger" if champion else "there is no challenger yet"
    scored = deployment.lake.read("evaluation_scores", [slice])
    values = promotion_values(
        deployment.lake.read("ranking_dataset", [slice]),
        scored,
        registry.load_ranker(champion.version) if champion else None,
        project,
    )
    decision = decide(
        values,
        project.promotion,
        project.seed,
        calibration_error=calibration_error(calibration(scored["click_probability"], scored["clicked"])),
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
