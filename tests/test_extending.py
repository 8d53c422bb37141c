"""The examples of docs/extending.md, each used as the project file of that page names it."""

import pickle
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features import sources
from features.behaviour import lookup_and_update
from features.catalogue import catalogue
from features.config.project import Project, load
from features.errors import ProjectError
from features.events.validation import Events, build
from features.ranking_dataset import feature_columns
from features.schemas import ItemVectors
from features.state import SliceEvents, start
from models.evaluation.baselines import baselines_of, lookup, scores
from models.evaluation.metrics import metrics_of, per_impression
from pipelines.lake import Lake
from pipelines.monitoring.checks import declared
from pipelines.monitoring.monitors import Monitor, View

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
LOG = """2026-01-05T01:00:00Z ann a,b,c a
2026-01-05T02:00:00Z ben a,b,c
later ann a b
2026-01-05T03:00:00Z ann a,b a
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project of the page, in a folder with its modules and a log."""
    folder, blocks = (
        tmp_path_factory.mktemp("blog"),
        re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL),
    )
    for language, block in blocks:
        name = "blog.toml" if language == "toml" else block.split(maxsplit=2)[1].rstrip(":")
        (folder / name).write_text(block)
    (folder / "logs").mkdir()
    (folder / "logs" / "day.log").write_text(LOG)
    path, modules = [*sys.path], {*sys.modules}
    yield load(folder / "blog.toml")
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == folder:
            del sys.modules[name]


@pytest.fixture(scope="module")
def events(project: Project) -> Events:
    raw = sources.read(project.reader, [project.folder / "logs"], lambda users: "u:" + users)
    return build(raw, project.slices, datetime(2026, 2, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def dataset(project: Project, events: Events) -> pl.DataFrame:
    tables = SliceEvents(events.items, events.impressions.drop("slice"), events.interactions.drop("slice"))
    state, (_, end) = start(project.slices.start, project.behaviour), project.slices.window("2026-01-05")
    features, _ = lookup_and_update(state, tables, end, ItemVectors.create_empty())
    shown = (
        events.impressions.explode("candidates")
        .unnest("candidates")
        .select("impression_id", "item_id", "position")
    )
    rows = shown.join(features, on=["impression_id", "item_id"], maintain_order="left")
    baselines = baselines_of(project.evaluation)
    measured = lookup(start(project.slices.start, project.behaviour), tables, baselines)
    return rows.join(scores(rows, measured, 1, baselines), on=["impression_id", "item_id"])


def test_a_reader_yields_impressions_clicks_and_rejects(events: Events) -> None:
    assert events.impressions["user_id"].to_list() == ["u:ann", "u:ben", "u:ann"]
    assert events.interactions["item_id"].to_list() == ["a", "a"]
    assert events.rejects["reason"].to_list() == ["bad_timestamp"]


def test_a_family_adds_columns_that_the_project_can_select(project: Project, dataset: pl.DataFrame) -> None:
    names = catalogue(project.behaviour).filter(family="night")["name"].to_list()
    assert names == ["item_clicks_per_user_click", "item_clicks_per_user_click_z"]
    assert {*names} <= {*feature_columns(dataset)}
    assert dataset["item_clicks_per_user_click"].to_list()[-2:] == [0.5, 0.0]


def test_a_baseline_and_a_metric_are_evaluated(project: Project, dataset: pl.DataFrame) -> None:
    assert dataset["trending"].null_count() == 0
    labelled = dataset.with_columns(label=(pl.col("item_id") == "a").cast(pl.Float64), score="trending")
    result = per_impression(labelled, metrics_of(project.evaluation))
    assert result["precision_at_3"].to_list() == [pytest.approx(1 / 3)] * 3


def test_a_monitor_is_a_check(project: Project, events: Events, tmp_path: Path) -> None:
    (monitor,) = (check for check, _ in declared(project.checks) if check.name == "crowded")
    assert isinstance(monitor, Monitor)
    lake = Lake(str(tmp_path))
    lake.write("impressions", "2026-01-05", events.impressions.drop("slice"))
    finding = monitor.evaluate(View(lake, project, ["2026-01-05"]))
    assert (finding.passed, finding.figures) == (True, {"longest": 3.0})


def test_a_process_that_unpickles_a_project_can_import_its_modules(project: Project) -> None:
    pickled = pickle.dumps(project)
    sys.path.remove(str(project.folder))
    assert pickle.loads(pickled) == project
    assert str(project.folder) in sys.path


def test_an_object_of_another_kind_is_an_error_of_the_project_file(project: Project) -> None:
    wrong = project.evaluation.model_copy(update={"baselines": ("night:night",)})
    with pytest.raises(ProjectError, match="night:night is a function, expected a Baseline"):
        baselines_of(wrong)
    twice = project.evaluation.model_copy(update={"baselines": ("trending:trending",) * 2})
    with pytest.raises(ProjectError, match="there are two called trending"):
        baselines_of(twice)
