"""The lake's rule for user ids, retention, and names that are taken out of files."""

import gzip
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import dagster as dg
import polars as pl
import pytest
from pydantic import SecretStr

from features.config.project import Project
from features.errors import ProjectError
from models.report.page import write as write_page
from models.report.tables import RankedList, ReportData
from pipelines.deployment import Deployment
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.privacy import retention
from pipelines.privacy.forgetting import find, forget
from pipelines.privacy.sweeping import BLANK, sweep
from pipelines.publish import preview
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


def deployment(settings: Settings, **sections: object) -> Deployment:
    made = Deployment(project(**sections), settings)
    registry = Mock(versions=Mock(return_value=[]), erase_pages=Mock(return_value=0))
    registry.champion.return_value = None
    made.__dict__["registry"] = registry
    return made


def lists(*users: str) -> pl.DataFrame:
    return pl.DataFrame({"user_id": users, "impression_id": [f"list of {user}" for user in users]})


def test_the_key_is_shown_by_no_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_PSEUDONYM_KEY", KEY)
    found = load_settings()
    assert found.pseudonym_key.get_secret_value() == KEY
    assert KEY not in repr(found)


def test_a_lake_keeps_to_the_key_that_it_was_begun_with(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    Privacy(lake, KEY).record_key()
    assert Privacy(lake, KEY).stored("anna") == Privacy(lake, KEY).stored("anna") != "anna"
    with pytest.raises(ProjectError, match="is not the key"):
        Privacy(lake, OTHER).stored("anna")
    with pytest.raises(ProjectError, match="is not set"):
        Privacy(lake, "").stored("anna")


def test_a_lake_that_holds_ids_takes_no_key(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    Privacy(lake, "").record_key()
    lake.write("impressions", DAYS[0], lists("anna"))
    assert Privacy(lake, "").stored("anna") == "anna"
    with pytest.raises(ProjectError, match="user ids as they are"):
        Privacy(lake, KEY).stored("anna")


def test_forgetting_follows_ids_lists_and_quotes_through_whatever_tables_there_are(
    settings: Settings,
) -> None:
    made = deployment(settings)
    lake = made.lake
    lake.write("impressions", DAYS[0], lists("anna", "bert", "anna-2"))
    lake.write("new/table", DAYS[0], lists("anna", "bert").select("impression_id"))
    raw = ['{"user":"anna"}', '{"user":"anna-2"}']
    lake.write("rejects", DAYS[0], pl.DataFrame({"reason": ["x", "y"], "raw": raw}))
    lake.write("items", DAYS[0], pl.DataFrame({"item_id": ["anna"]}))

    traces = find(made, "anna")
    forget(made, traces)

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
    assert len(made.privacy.marks()) == 1
    assert "anna" not in "".join(made.privacy.marks())


def test_a_short_id_erases_what_names_it_and_nothing_that_only_looks_like_it(settings: Settings) -> None:
    made = deployment(settings)
    raw = [
        '{"user":"1","clicked":0}', '{"user": 1}', '{"user":"7","clicked":1}', '{"user":"11"}', '{"at":"1"',
        "1,i-7,2026-01-05", "7, 1 ,0", "11,i-1,1.5", '"1","i,7"',
    ]  # fmt: skip
    made.lake.write("impressions", DAYS[0], lists("1", "11"))
    made.lake.write("rejects", DAYS[0], pl.DataFrame({"reason": "x", "raw": raw}))
    pages = made.settings.report("toy")
    pages.mkdir(parents=True)
    for name, user in (("report", "11"), ("report_1", "1")):
        rows = pl.DataFrame({"rank": [1], "title": ["1"], "rank_score": [1.0], "click_probability": [0.1]})
        shown = [RankedList(user, ["1"], rows.with_columns(reasons=pl.lit("1")))]
        page = ReportData("toy", NOW, (DAYS[0], DAYS[0]), lists=shown)
        write_page(pages / f"{name}.html", page)

    forget(made, find(made, "1"))

    assert made.lake.read("impressions")["user_id"].to_list() == ["11"]
    left = ["" if number in (0, 1, 5, 6, 8) else row for number, row in enumerate(raw)]
    assert made.lake.read("rejects")["raw"].to_list() == left
    assert [page.name for page in pages.iterdir()] == ["report.html"]
    unwanted = made.registry.erase_pages.call_args.args[0]
    assert not unwanted(DAYS[0], (pages / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize("user", ["", " ", "2", "Anna"])
def test_an_id_that_nobody_has_is_refused_and_nothing_is_touched(
    settings: Settings, key: str, user: str
) -> None:
    made = deployment(settings.model_copy(update={"pseudonym_key": SecretStr(key)}))
    made.privacy.record_key()
    people = lists(*(made.privacy.stored(user) for user in ("anna", "1")))
    for _ in range(2):  # the first version of the table is an older one
        made.lake.write("impressions", DAYS[0], people)
    made.lake.write("rejects", DAYS[0], pl.DataFrame({"reason": ["x"], "raw": ["1,2,3"]}))
    before = {path: path.stat().st_mtime_ns for path in settings.home.rglob("*")}

    with pytest.raises(ProjectError, match=f"no table has a row about user {user!r}, so nothing was changed"):
        find(made, user)

    assert {path: path.stat().st_mtime_ns for path in settings.home.rglob("*")} == before


def test_before_any_run_there_is_nobody_to_forget(settings: Settings) -> None:
    with pytest.raises(ProjectError, match=r"nothing is kept of anybody yet.*momentrank run"):
        find(deployment(settings), "anna")


def test_whom_a_cut_short_forgetting_left_out_can_be_forgotten_again(settings: Settings) -> None:
    made = deployment(settings)
    made.lake.write("impressions", DAYS[0], lists("anna", "bert"))
    forget(made, find(made, "anna"))
    assert find(made, "anna").total == 0


def test_versions_are_counted_by_who_was_forgotten_once_each(tmp_path: Path) -> None:
    privacy = Privacy(Lake(str(tmp_path)), "")
    privacy.mark_forgotten("anna", {"ranker": ["1", "2"], "interest": []})
    privacy.mark_forgotten("anna", {"ranker": [], "interest": ["3"]})
    privacy.mark_forgotten("bert", {"ranker": ["2"], "interest": []})
    assert privacy.forgotten_since_fit("ranker") == {"1": 1, "2": 2}
    assert privacy.forgotten_since_fit("interest") == {"3": 1}


def test_what_is_too_old_goes_and_what_is_needed_to_go_on_stays(settings: Settings) -> None:
    made = deployment(settings, retention={"keep": "2d"}, ranker={"window": 2})
    tables = ("impressions", "ranking_dataset", "moment_state/item", "moment_state/items")
    for day in DAYS:
        for table in tables[:2]:
            made.lake.write(table, day, lists("anna"))
        for table in tables[2:]:
            made.lake.write(table, day, pl.DataFrame({"item_id": ["a"]}))
        made.lake.write("evaluation", day, pl.DataFrame({"mean": [0.5]}))

    gone = retention.due_to_go(made.lake, made.project, NOW)
    files, _ = retention.retire(made.lake, made.registry, made.project, gone, NOW)

    assert gone["impressions"] == DAYS[:2]
    assert made.lake.slices("impressions") == DAYS[2:]
    # The oldest slice that is left starts from the state before it.
    assert made.lake.slices("moment_state/item") == made.lake.slices("moment_state/items") == DAYS[1:]
    # An empty slice: it was run, and no schedule runs it again.
    assert made.lake.slices("ranking_dataset") == DAYS
    assert made.lake.read("ranking_dataset")["slice"].unique().sort().to_list() == DAYS[2:]
    assert made.lake.slices("evaluation") == DAYS
    assert files == 6
    assert retention.due_to_go(made.lake, made.project, NOW) == {}
    unwanted = made.registry.erase_pages.call_args.args[0]
    assert [unwanted(day, "") for day in DAYS] == [True, True, False, False]


def test_the_job_lists_what_would_go_before_it_deletes(settings: Settings) -> None:
    made = deployment(settings, retention={"keep": "7d"})
    made.lake.write("impressions", DAYS[0], lists("anna"))
    (job,) = retention.jobs(made.project, {})

    def run(dry: bool) -> dict[str, object]:
        config = {"ops": {"toy__retire_what_is_old": {"config": {"dry": dry}}}}
        with dg.DagsterInstance.ephemeral() as instance:
            done = job.execute_in_process(config, instance, resources={"toy_deployment": made})
        (step,) = (event for event in done.all_events if event.is_successful_output)
        return {name: value.value for name, value in step.step_output_data.metadata.items()}

    assert run(dry=True)["slices"] == {"impressions": [DAYS[0]]}
    assert made.lake.slices("impressions") == [DAYS[0]]
    assert run(dry=False)["files_removed"] == 1
    assert made.lake.slices("impressions") == []


def test_without_a_term_nothing_is_deleted(settings: Settings) -> None:
    made = deployment(settings)
    made.lake.write("impressions", DAYS[0], lists("anna"))
    assert retention.due_to_go(made.lake, made.project, NOW) == {}
    assert retention.jobs(made.project, {}) == retention.schedules(made.project) == []
    assert [one.cron_schedule for one in retention.schedules(project(retention={"keep": "30d"}))] == [
        "0 4 * * *"
    ]


def test_a_term_shorter_than_the_rankers_window_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than"):
        project(retention={"keep": "2d"}, ranker={"window": 7})


def test_a_preview_does_not_say_of_whom_a_row_is() -> None:
    shown = preview(lists("anna").with_columns(clicks=pl.lit(3), raw=pl.lit("anna")))
    assert "anna" not in shown
    assert "| clicks |" in shown


def test_names_are_swept_out_of_texts_packed_texts_and_databases(tmp_path: Path) -> None:
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

    found = sweep(tmp_path, [name], [tmp_path / "spared"])

    assert {path.name for path in found.mended} == {"run.log", "old.log.gz", "runs.db"}
    assert [path.name for path in found.left] == ["weights.bin"]
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == f"no list of {BLANK}, one of {longer}"
    assert name.encode() not in gzip.decompress((tmp_path / "old.log.gz").read_bytes())
    assert name.encode() not in database.read_bytes()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT body FROM events").fetchall() == [
            (f'{{"error": "{BLANK} is unknown"}}',)
        ]


def test_an_id_that_may_be_anything_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("2026 rows", encoding="utf-8")
    assert sweep(tmp_path, ["2026"], []).mended == ()
