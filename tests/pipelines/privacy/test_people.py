"""Pseudonyms, forgetting, retention, and ids replaced in files."""

import gzip
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import dagster as dg
import polars as pl
import pytest
from pydantic import SecretStr

from features.config.project import Project
from features.errors import ProjectError
from models.report.page import write as write_page
from models.report.report_data import RankedList, ReportData
from pipelines.asset_steps import preview
from pipelines.deployment import Deployment
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.privacy import retention
from pipelines.privacy.forgetting import find, forget
from pipelines.privacy.sweeping import BLANK, sweep
from pipelines.settings.settings import Settings
from pipelines.settings.settings import load as load_settings

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
DAYS = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]
NOW = datetime(2026, 1, 9, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path / "home"))
    return load_settings()


def project(**sections: object) -> Project:
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC)}
    return Project.model_validate(
        {"name": "toy", "source": {"format": "newsroom"}, "slices": slices, **sections}
    )


def deploy(settings: Settings, **sections: object) -> Deployment:
    deployment = Deployment(project(**sections), settings)
    registry = Mock(versions=Mock(return_value=[]), erase_pages=Mock(return_value=0))
    registry.champion.return_value = None
    deployment.__dict__["registry"] = registry
    return deployment


def lists(*users: str) -> pl.DataFrame:
    return pl.DataFrame({"user_id": users, "impression_id": [f"list of {user}" for user in users]})


def test_settings_do_not_show_the_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_PSEUDONYM_KEY", KEY)
    loaded = load_settings()
    assert loaded.pseudonym_key.get_secret_value() == KEY
    assert KEY not in repr(loaded)


def test_a_lake_needs_the_key_it_was_created_with(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    Privacy(lake, KEY).record_key()
    assert Privacy(lake, KEY).stored("anna") == Privacy(lake, KEY).stored("anna") != "anna"
    with pytest.raises(ProjectError, match="is not the key"):
        Privacy(lake, OTHER).stored("anna")
    with pytest.raises(ProjectError, match="is not set"):
        Privacy(lake, "").stored("anna")


def test_a_lake_with_plain_ids_accepts_no_key(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    Privacy(lake, "").record_key()
    lake.write("impressions", DAYS[0], lists("anna"))
    assert Privacy(lake, "").stored("anna") == "anna"
    with pytest.raises(ProjectError, match="plain user ids"):
        Privacy(lake, KEY).stored("anna")


def test_forgetting_erases_ids_impressions_and_quotes_from_every_table(
    settings: Settings,
) -> None:
    deployment = deploy(settings)
    lake = deployment.lake
    lake.write("impressions", DAYS[0], lists("anna", "bert", "anna-2"))
    lake.write("new/table", DAYS[0], lists("anna", "bert").select("impression_id"))
    raw = ['{"user":"anna"}', '{"user":"anna-2"}']
    lake.write("rejects", DAYS[0], pl.DataFrame({"reason": ["x", "y"], "raw": raw}))
    lake.write("items", DAYS[0], pl.DataFrame({"item_id": ["anna"]}))

    traces = find(deployment, "anna")
    forget(deployment, traces)

    assert {table: sum(rows.values()) for table, rows in traces.rows.items()} == {
        "impressions": 1,
        "new/table": 1,
        "rejects": 1,
    }
    assert lake.read("impressions")["user_id"].to_list() == ["bert", "anna-2"]
    assert lake.read("new/table")["impression_id"].to_list() == ["list of bert"]
    assert lake.read("rejects")["raw"].to_list() == ["", raw[1]]
    assert lake.read("items").height == 1
    files = [path for path in settings.home.rglob("*.parquet") if "impressions" in path.parts]
    assert len(files) == 1
    assert len(deployment.privacy.marks()) == 1
    assert "anna" not in "".join(deployment.privacy.marks())


def test_a_short_id_erases_no_similar_text(settings: Settings) -> None:
    deployment = deploy(settings)
    raw = [
        '{"user":"1","clicked":0}', '{"user": 1}', '{"user":"7","clicked":1}', '{"user":"11"}', '{"at":"1"',
        "1,i-7,2026-01-05", "7, 1 ,0", "11,i-1,1.5", '"1","i,7"',
    ]  # fmt: skip
    deployment.lake.write("impressions", DAYS[0], lists("1", "11"))
    deployment.lake.write("rejects", DAYS[0], pl.DataFrame({"reason": "x", "raw": raw}))
    pages = deployment.settings.report("toy")
    pages.mkdir(parents=True)
    for name, user in (("report", "11"), ("report_1", "1")):
        rows = pl.DataFrame({"rank": [1], "title": ["1"], "rank_score": [1.0], "click_probability": [0.1]})
        shown = [RankedList(user, ["1"], rows.with_columns(reasons=pl.lit("1")))]
        page = ReportData("toy", NOW, (DAYS[0], DAYS[0]), lists=shown)
        write_page(pages / f"{name}.html", page)

    forget(deployment, find(deployment, "1"))

    assert deployment.lake.read("impressions")["user_id"].to_list() == ["11"]
    left = ["" if number in (0, 1, 5, 6, 8) else row for number, row in enumerate(raw)]
    assert deployment.lake.read("rejects")["raw"].to_list() == left
    assert [page.name for page in pages.iterdir()] == ["report.html"]
    unwanted = deployment.registry.erase_pages.call_args.args[0]
    assert not unwanted(DAYS[0], (pages / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize("user", ["", " ", "2", "Anna"])
def test_an_unknown_id_is_an_error_and_changes_nothing(settings: Settings, key: str, user: str) -> None:
    deployment = deploy(settings.model_copy(update={"pseudonym_key": SecretStr(key)}))
    deployment.privacy.record_key()
    people = lists(*(deployment.privacy.stored(user) for user in ("anna", "1")))
    for _ in range(2):  # the first version of the table is an older one
        deployment.lake.write("impressions", DAYS[0], people)
    deployment.lake.write("rejects", DAYS[0], pl.DataFrame({"reason": ["x"], "raw": ["1,2,3"]}))
    before = {path: path.stat().st_mtime_ns for path in settings.home.rglob("*")}

    with pytest.raises(ProjectError, match=f"nothing was changed: no table has a row about user {user!r}"):
        find(deployment, user)

    assert {path: path.stat().st_mtime_ns for path in settings.home.rglob("*")} == before


def test_forgetting_before_any_run_is_an_error(settings: Settings) -> None:
    with pytest.raises(ProjectError, match=r"has no tables yet.*momentrank run"):
        find(deploy(settings), "anna")


def test_a_forgotten_user_can_be_forgotten_again(settings: Settings) -> None:
    deployment = deploy(settings)
    deployment.lake.write("impressions", DAYS[0], lists("anna", "bert"))
    forget(deployment, find(deployment, "anna"))
    assert find(deployment, "anna").total == 0


def test_each_forgotten_user_counts_once_per_version(tmp_path: Path) -> None:
    privacy = Privacy(Lake(str(tmp_path)), "")
    privacy.mark_forgotten("anna", {"ranker": ["1", "2"], "interest": []})
    privacy.mark_forgotten("anna", {"ranker": [], "interest": ["3"]})
    privacy.mark_forgotten("bert", {"ranker": ["2"], "interest": []})
    assert privacy.forgotten_since_fit("ranker") == {"1": 1, "2": 2}
    assert privacy.forgotten_since_fit("interest") == {"3": 1}


def test_retention_deletes_old_slices_and_keeps_the_state(settings: Settings) -> None:
    deployment = deploy(settings, retention={"keep": "2d"}, ranker={"window": 2})
    tables = ("impressions", "ranking_dataset", "moment_state/item", "moment_state/items")
    for day in DAYS:
        for table in tables[:2]:
            deployment.lake.write(table, day, lists("anna"))
        for table in tables[2:]:
            deployment.lake.write(table, day, pl.DataFrame({"item_id": ["a"]}))
        deployment.lake.write("evaluation", day, pl.DataFrame({"mean": [0.5]}))

    slices, before = deployment.project.slices, NOW - timedelta(days=2)
    due = retention.slices_to_delete(deployment.lake, slices, before)
    files, _ = retention.retire(deployment.lake, deployment.registry, slices, due, before)

    assert due["impressions"] == DAYS[:2]
    assert deployment.lake.slices("impressions") == DAYS[2:]
    # The oldest remaining slice starts from the state before it.
    assert (
        deployment.lake.slices("moment_state/item")
        == deployment.lake.slices("moment_state/items")
        == DAYS[1:]
    )
    # An empty slice marks it as done, so that no schedule runs it again.
    assert deployment.lake.slices("ranking_dataset") == DAYS
    assert deployment.lake.read("ranking_dataset")["slice"].unique().sort().to_list() == DAYS[2:]
    assert deployment.lake.slices("evaluation") == DAYS
    assert files == 6
    assert retention.slices_to_delete(deployment.lake, slices, before) == {}
    unwanted = deployment.registry.erase_pages.call_args.args[0]
    assert [unwanted(day, "") for day in DAYS] == [True, True, False, False]


def test_a_dry_run_deletes_nothing(settings: Settings) -> None:
    deployment, keep = deploy(settings), timedelta(days=7)
    deployment.lake.write("impressions", DAYS[0], lists("anna"))
    job = retention.job("toy", deployment.project.slices, keep, {})

    def run(dry: bool) -> dict[str, object]:
        config = {"ops": {"toy__retire_what_is_old": {"config": {"dry": dry}}}}
        with dg.DagsterInstance.ephemeral() as instance:
            done = job.execute_in_process(config, instance, resources={"toy_deployment": deployment})
        (step,) = (event for event in done.all_events if event.is_successful_output)
        return {name: value.value for name, value in step.step_output_data.metadata.items()}

    assert run(dry=True)["slices"] == {"impressions": [DAYS[0]]}
    assert deployment.lake.slices("impressions") == [DAYS[0]]
    assert run(dry=False)["files_removed"] == 1
    assert deployment.lake.slices("impressions") == []


def test_retention_shorter_than_the_window_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"raise retention\.keep"):
        project(retention={"keep": "2d"}, ranker={"window": 7})


def test_a_preview_has_no_ids() -> None:
    shown = preview(lists("anna").with_columns(clicks=pl.lit(3), raw=pl.lit("anna")))
    assert "anna" not in shown
    assert "| clicks |" in shown


def test_ids_are_replaced_in_text_gzip_and_databases(tmp_path: Path) -> None:
    name, longer = "anna-0001", "anna-00012"
    (tmp_path / "run.log").write_text(f"no list of {name}, one of {longer}", encoding="utf-8")
    (tmp_path / "old.log.gz").write_bytes(gzip.compress(f"user {name}".encode()))
    (tmp_path / "spared").mkdir()
    (tmp_path / "spared" / "source.log").write_text(name, encoding="utf-8")
    (tmp_path / "weights.bin").write_bytes(b"\xff\xfe " + name.encode() + b" \xff")
    database = tmp_path / "runs.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE events (body TEXT)")
        connection.execute("INSERT INTO events VALUES (?)", (f'{{"error": "{name} is unknown"}}',))
        connection.execute("INSERT INTO events VALUES (?)", (f"to be deleted: {name}",))
        connection.execute("DELETE FROM events WHERE body LIKE 'to be%'")

    swept = sweep(tmp_path, [name], [tmp_path / "spared"])

    assert {path.name for path in swept.mended} == {"run.log", "old.log.gz", "runs.db"}
    assert [path.name for path in swept.left] == ["weights.bin"]
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == f"no list of {BLANK}, one of {longer}"
    assert name.encode() not in gzip.decompress((tmp_path / "old.log.gz").read_bytes())
    assert name.encode() not in database.read_bytes()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT body FROM events").fetchall() == [
            (f'{{"error": "{BLANK} is unknown"}}',)
        ]


def test_a_short_id_is_not_searched_for(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("2026 rows", encoding="utf-8")
    assert sweep(tmp_path, ["2026"], []).mended == ()
