"""Column schemas for Dagster: name, type and meaning of each column."""

from collections.abc import Mapping

import dagster as dg
import dataframely as dy
import polars as pl

from features.catalogue import FORMS, catalogue
from features.config.sections import BehaviourConfig
from features.ranking_dataset import INTEREST
from features.schemas import (
    Candidates,
    Exposure,
    Impressions,
    Interactions,
    InterestScores,
    Items,
    ItemVectors,
    RankedLists,
    Rejects,
    TopicShifts,
    column_descriptions,
)

DECLARED: Mapping[str, type[dy.Schema]] = {
    "items": Items,
    "impressions": Impressions,
    "interactions": Interactions,
    "candidates": Candidates,
    "rejects": Rejects,
    "item_vectors": ItemVectors,
    "interest_scores": InterestScores,
    "exposure": Exposure,
    "topic_shifts": TopicShifts,
    "ranked_lists": RankedLists,
}
"""Tables whose columns are the same in every project."""


def declared(table: str) -> dict[str, dg.TableSchema]:
    """Column schema of an asset without slices; empty if the columns depend on the project."""
    if table not in DECLARED:
        return {}
    schema = DECLARED[table]
    return {"dagster/column_schema": _schema(schema.create_empty().schema, column_descriptions(schema))}


def described(table: str, columns: Mapping[str, pl.DataType], config: BehaviourConfig) -> dg.TableSchema:
    """Column schema of a written table; features have their meaning from the catalogue."""
    meanings = column_descriptions(DECLARED[table]) if table in DECLARED else {}
    if table in ("features", "ranking_dataset"):
        form = f"{INTEREST}_z"
        scores = column_descriptions(InterestScores)
        meanings = {
            **column_descriptions(Candidates),
            **scores,
            form: f"{scores[INTEREST]} {FORMS['z'].capitalize()}.",
            **dict(catalogue(config).select("name", "meaning").iter_rows()),
        }
    return _schema(columns, meanings)


def _schema(columns: Mapping[str, pl.DataType], meanings: Mapping[str, str]) -> dg.TableSchema:
    return dg.TableSchema(
        [dg.TableColumn(name, str(dtype), meanings.get(name)) for name, dtype in columns.items()]
    )
