"""The whole chain on a small newsroom, through the definitions and commands of the product."""

import gzip
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas
import polars as pl
import pytest
from typer.testing import CliRunner

from features.behaviour import advance
from features.config.sections import Experiment
from features.errors import ModelError
from features.events.validation import build
from features.sources import read as read_source
from features.state import SliceEvents
from pipelines.cli.commands import app
from pipelines.dagster_names import asset_key
from pipelines.definitions import advance_job
from pipelines.deployment import Deployment
from pipelines.estimating import estimate_version
from pipelines.running import materialise
from pipelines.service.wire import RankRequest
from pipelines.triggers.partitions import range_tags

NEWSROOM = Path(__file__).parent.parent / "projects" / "newsroom.toml"
FOUR_DAYS = (
    "source.newsroom.days=4",
    "source.newsroom.users=60",
    "source.newsroom.articles_a_day=15",
    "source.newsroom.impressions_a_day=150",
    "source.newsroom.list_size=10",
    "source.newsroom.exploration=0.6",
    "exploration.share=0.9",
    "slices.end=2026-01-09T00:00:00Z",
    "interest.max_tokens=24",
    "ranker.num_iterations=40",
    "ranker.early_stopping_round=10",
    "lists.pool=30",
)
Opened = Callable[..., Deployment]
SLICES = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, small_newsroom: Opened) -> Deployment:
    """A newsroom of four days after one run over all of them."""
    made = small_newsroom(tmp_path_factory.mktemp("home") / "My Projekté #1 = 100% {new}", *FOUR_DAYS)
    assert materialise(made, None, None) == SLICES[-1]
    return made


def metrics(of: Deployment) -> dict[str, object]:
    path = of.settings.report(of.project.name) / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_row_of_the_logs_is_kept_or_rejected(ran: Deployment) -> None:
    raw = read_source(ran.project.reader, [ran.settings.newsroom("newsroom") / "events"])
    lines = sum(
        gzip.decompress(path.read_bytes()).count(b"\n")
        for path in (ran.settings.newsroom("newsroom") / "events").iterdir()
    )
    kept = sum(ran.lake.read(name).height for name in ("items", "impressions", "interactions", "rejects"))
    assert raw.height == lines == kept
    assert ran.lake.read("rejects").height > 0


def test_every_table_has_every_slice(ran: Deployment) -> None:
    for table in ("candidates", "features", "interest_scores", "ranking_dataset", "moment_state/item"):
        assert ran.lake.slices(table) == SLICES, table
    for one, other in (("candidates", "features"), ("candidates", "ranking_dataset")):
        assert ran.lake.read(one).height == ran.lake.read(other).height


def test_no_score_comes_from_a_version_that_saw_its_slice(ran: Deployment) -> None:
    scores = ran.lake.read("interest_scores")
    assert scores.filter(pl.col("slice") == SLICES[0])["interest_slice"].null_count() > 0
    later = scores.filter(pl.col("slice") > SLICES[0])
    assert later["interest_slice"].null_count() == 0
    assert (later["interest_slice"] < later["slice"]).all()


def test_versions_are_registered_and_plain_mlflow_serves_them(ran: Deployment) -> None:
    import mlflow

    for kind in ("ranker", "interest"):
        versions = ran.registry.versions(kind)
        assert [v["slice"] for v in versions] == SLICES
        assert all(v["tags"]["dagster_run"] for v in versions)
    version = ran.registry.serving("9999")
    assert version is not None
    mlflow.set_tracking_uri(ran.settings.tracking_uri)
    model = mlflow.pyfunc.load_model(f"models:/newsroom-ranker/{version.version}")
    ours = ran.registry.load_ranker(version.version)
    rows = ran.lake.read("ranking_dataset", [SLICES[-1]]).head(50)
    fitted = pl.col(ours.columns).cast(pl.Float64)
    served = model.predict(rows.select("impression_id", "item_id", fitted).to_pandas())
    assert served["rank_score"].to_numpy() == pytest.approx(ours.score(rows).to_numpy())
    assert served["rank"].min() == 1
    assert served["click_probability"].between(0, 1).all()

    interest = mlflow.pyfunc.load_model("models:/newsroom-interest@challenger")
    history = [{"text": "The harbour reopens", "action": "click", "at": 1.0}]
    request = {"history": history, "candidates": ["Ships return to the harbour", "A new soup"], "at": 2.0}
    (scores,) = interest.predict(pandas.DataFrame([request]))
    assert all(0 < score < 1 for score in scores)
    assert scores[0] != scores[1]
    run = mlflow.MlflowClient().get_run(interest.metadata.run_id)
    assert run.data.params["tune"] == ran.project.interest.tune
    assert {"loss", "learning_rate", "gradient_norm", "impressions_per_second"} <= set(run.data.metrics)


def test_a_versions_click_rate_is_estimated_on_traffic_after_it(ran: Deployment) -> None:
    import mlflow

    version = next(v for v in ran.registry.versions("ranker") if v["slice"] == SLICES[2])["version"]
    _, slices, estimates = estimate_version(ran.slices, ran.registry, version, 10, 7)
    assert slices == SLICES[3:]
    assert estimates.without_propensity == 0
    doubly_robust = estimates.table.row(by_predicate=pl.col("estimator") == "dr", named=True)
    assert doubly_robust["low"] < doubly_robust["click_rate"] < doubly_robust["high"]
    client = mlflow.MlflowClient(ran.settings.tracking_uri)
    run = client.get_run(client.get_model_version("newsroom-ranker", version).run_id)
    assert run.data.metrics["off_policy/dr"] == doubly_robust["click_rate"]
    with pytest.raises(ModelError, match="no later one has been run"):
        estimate_version(ran.slices, ran.registry, "challenger", 10, 7)


def test_each_version_has_a_card_with_metrics_once_it_is_evaluated(ran: Deployment) -> None:
    import mlflow

    client = mlflow.MlflowClient(ran.settings.tracking_uri)
    for version in ran.registry.versions("ranker"):
        card = client.get_model_version("newsroom-ranker", version["version"]).description
        assert card.startswith(f"# newsroom-ranker, fitted on {SLICES[0]} … {version['slice']}")
        assert len(card) <= 5000
        assert ("Not evaluated yet" in card) == (version["slice"] == SLICES[-1])
    first, second, *_ = (
        client.get_model_version("newsroom-interest", version["version"]).description
        for version in ran.registry.versions("interest")
    )
    assert first.startswith(f"# newsroom-interest, fine-tuned up to {SLICES[0]}")
    assert "the pretrained encoder" in first
    assert "version 1" in second


def test_metrics_are_those_of_the_evaluated_impressions(ran: Deployment) -> None:
    report = metrics(ran)
    scored = ran.lake.read("evaluation_scores")
    assert set(scored["slice"]) == set(SLICES[1:])
    mixed = scored.group_by("impression_id").agg(pl.col("clicked").any() & ~pl.col("clicked").all())
    assert report["impressions"] == mixed["clicked"].sum()
    assert set(report["scorers"]) >= {
        "full",
        "behaviour_only",
        "text_only",
        "popularity",
        "random",
        "as_shown",
    }


def test_each_listed_user_has_a_full_list_of_known_items(ran: Deployment) -> None:
    lists = ran.lake.read("ranked_lists", [SLICES[-1]])
    assert lists["user_id"].n_unique() == 5
    for _, rows in lists.group_by("user_id"):
        assert sorted(rows["rank"]) == list(range(1, ran.project.lists.k + 1))
        assert rows["item_id"].is_unique().all()
        assert rows.sort("rank")["rank_score"].is_sorted(descending=True)
    assert lists["title"].str.len_chars().min() > 0
    assert lists["reasons"].str.ends_with(".").all()
    assert lists["reasons"].str.contains(" a user who .* “").any()
    assert lists["click_probability"].is_between(0, 1).all()


def test_lists_of_an_earlier_slice_can_be_made_again(ran: Deployment) -> None:
    import dagster as dg

    newest, folder = ran.lake.read("ranked_lists", [SLICES[-1]]), ran.settings.report(ran.project.name)
    page = (folder / "report.html").read_bytes()
    with dg.DagsterInstance.get() as instance:
        result = advance_job(ran).execute_in_process(
            instance=instance,
            asset_selection=[asset_key(ran.project.name, name) for name in ("ranked_lists", "report")],
            tags=range_tags(SLICES[1], SLICES[2]),
        )  # fmt: skip

    _, end = ran.project.slices.window(SLICES[2])
    made = ran.lake.read("ranked_lists", [SLICES[2]])
    later = ran.lake.read("items").filter(pl.col("known_at") >= end)
    assert made.height == newest.height
    assert made.join(later, on="item_id", how="semi").is_empty()
    assert ran.lake.read("ranked_lists", [SLICES[-1]]).equals(newest)
    assert (folder / "report.html").read_bytes() == page
    assert f"Slices {SLICES[0]} to {SLICES[2]}" in (folder / f"report_{SLICES[2]}.html").read_text("utf-8")
    metadata = {
        made.partition: made.metadata
        for made in result.asset_materializations_for_node("newsroom__ranked_lists")
    }
    assert "of a range, only the last slice" in str(metadata[SLICES[1]]["skipped"].value)
    (version,) = (v for v in ran.registry.versions("ranker") if v["slice"] == SLICES[2])
    assert int(str(metadata[SLICES[2]]["ranked_by"].value).split()[-1]) <= int(version["version"])


def test_a_rerun_of_a_slice_gives_the_same_tables(ran: Deployment) -> None:
    tables = (
        "items",
        "candidates",
        "moment_state/user",
        "features",
        "interest_scores",
        "ranking_dataset",
        "evaluation",
    )
    before = {name: ran.lake.read(name) for name in tables}
    materialise(ran, SLICES[-1], SLICES[-1])
    for name, rows in before.items():
        assert ran.lake.read(name).equals(rows), name


def test_the_future_never_changes_the_past(ran: Deployment, small_newsroom: Opened, tmp_path: Path) -> None:
    # Another deployment with the first two days of the logs gives the same bits.
    logs = tmp_path / "logs"
    logs.mkdir()
    for path in sorted((ran.settings.newsroom("newsroom") / "events").iterdir())[:2]:
        shutil.copy(path, logs)
    source = ('source.format="metarank"', f'source.path="{logs}"')
    other = small_newsroom(tmp_path / "home", *FOUR_DAYS, *source)
    materialise(other, None, SLICES[1])
    for table in ("candidates", "features", "interest_scores", "ranking_dataset", "evaluation_scores"):
        past = [key for key in other.lake.slices(table) if key < SLICES[1]] or [SLICES[1]]
        assert other.lake.read(table, past).equals(ran.lake.read(table, past)), table


def test_commands_check_rank_and_explain(ran: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(ran.settings.home))
    monkeypatch.setenv("COLUMNS", "200")
    runner, overrides = CliRunner(), [f"--set={one}" for one in ran.settings.overrides]
    # The day's last impression: its user is likely to have a history.
    impression = ran.lake.read("impressions", [SLICES[-1]]).sort("shown_at")["impression_id"][-1]
    user = ran.lake.read("ranked_lists", [SLICES[-1]])["user_id"][0]

    checked = runner.invoke(app, ["check", str(NEWSROOM), *overrides], catch_exceptions=False)
    ranked = runner.invoke(
        app, ["rank", str(NEWSROOM), "--user", user, "-k", "3", *overrides], catch_exceptions=False
    )
    for_user = runner.invoke(
        app, ["explain", str(NEWSROOM), "--user", user, *overrides], catch_exceptions=False
    )
    explained = runner.invoke(
        app, ["explain", str(NEWSROOM), "--impression", impression, *overrides], catch_exceptions=False
    )
    assert "broken_json" in checked.output
    assert ranked.exit_code == explained.exit_code == 0
    assert "│ 3 " in ranked.output
    assert "interest" in explained.output
    assert "because of “" in explained.output
    assert for_user.exit_code == 0
    assert "First because" in for_user.output
    assert "most moved by" in for_user.output


def test_a_backtest_of_the_last_slice_equals_the_evaluation_of_the_run(
    ran: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(ran.settings.home))
    overrides = [f"--set={one}" for one in ran.settings.overrides]

    def figures(*options: str) -> dict[str, Any]:
        arguments = ["--after", f"{SLICES[-1]}T00:00:00Z", "--json", str(tmp_path / "figures.json"), *options]
        CliRunner().invoke(app, ["backtest", str(NEWSROOM), *arguments, *overrides], catch_exceptions=False)
        return json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))

    updated, static = figures(), figures("--static")

    columns = ("scorer", "metric", "segment", "mean", "low", "high", "impressions")
    own = ran.lake.read("evaluation", [SLICES[-1]], columns)
    for segment, scorers in {"all": updated["scorers"], **updated["segments"]}.items():
        for row in own.filter(segment=segment).iter_rows(named=True):
            assert scorers[row["scorer"]][row["metric"]] == {end: row[end] for end in ("mean", "low", "high")}
    assert own["segment"].n_unique() == 1 + len(updated["segments"])
    assert updated["impressions"] == static["impressions"] > 0
    # With a static state nothing is learnt from the last day: same impressions, other scores.
    assert static["scorers"]["random"] == updated["scorers"]["random"]
    assert static["scorers"]["popularity"] != updated["scorers"]["popularity"]


def post(client: Any, path: str, body: object) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def lines_of(made: Deployment, slice: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole events of a day's log, and when each arrived in microseconds."""
    log = made.settings.newsroom("newsroom") / "events" / f"{slice}.jsonl.gz"
    for line in gzip.decompress(log.read_bytes()).splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if "timestamp" in event and event["event"] != "heartbeat":
                yield 1000 * int(event.get("known_at", event["timestamp"])), event


def _behaviour(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Columns of each item but what the decoder's cache rounds differently."""
    return {
        row["item_id"]: {name: v for name, v in row["features"].items() if "interest" not in name}
        for row in rows
    }


def _show_explored(client: Any, now: list[int], request: dict[str, Any]) -> list[dict[str, Any]]:
    """A minute later, rank, report the list with its propensities; return the candidates that the log should have."""
    now[0] += 60_000_000
    answer = post(client, "/rank", request)
    items = [{"id": row["item_id"], "propensity": row["propensity"]} for row in answer["items"]]
    assert [row["rank"] for row in answer["items"]] != [*range(1, len(items) + 1)]
    impression = {"event": "ranking", "id": answer["impression_id"], "user": request["user_id"]}
    post(client, "/events", impression | {"items": items})
    return [
        {"item_id": item["id"], "position": position, "propensity": item["propensity"]}
        for position, item in enumerate(items, 1)
    ]


def _with_experiment(made: Deployment) -> Deployment:
    """The deployment with an experiment in which the first ranker version has half of the users."""
    experiment = Experiment(challenger_share=0.5, challenger="1", since=made.project.slices.start)
    return replace(made, project=made.project.model_copy(update={"experiment": experiment}))


def test_a_slice_served_over_http_reads_what_its_batch_read_and_a_restart_knows_it(ran: Deployment) -> None:
    from fastapi.testclient import TestClient

    from pipelines.service.app import create_app
    from pipelines.service.service import Service

    now = [0]
    service = Service(ran, until=SLICES[2], clock=lambda: now[0])
    dataset = ran.lake.read("ranking_dataset", [SLICES[3]])
    batch = {(row["impression_id"], row["item_id"]): row for row in dataset.iter_rows(named=True)}
    compared, worst, sent = 0, dict.fromkeys(("features", "texts", "interest"), 0.0), []
    with TestClient(create_app(service)) as client:
        while not service.ready and not service.problem:
            time.sleep(0.05)
        assert not service.problem
        for arrived, event in lines_of(ran, SLICES[3]):
            now[0] = arrived
            if event["event"] == "ranking" and service.resident.live.at < arrived:
                request = {
                    "user_id": event["user"],
                    "session_id": event["session"],
                    "candidates": [item["id"] for item in event["items"]],
                    "features": True,
                }
                for row in post(client, "/rank", request)["items"]:
                    expected = batch[event["id"], row["item_id"]]
                    for name, value in row["features"].items():
                        known = expected[name]
                        assert (value is None) == (known is None), name
                        kind = (
                            "interest"
                            if "interest" in name
                            else "texts"
                            if name.startswith("text_")
                            else "features"
                        )
                        if value is not None and not name.endswith(("_rank", "interest_score_z")):
                            off = abs(value - known) / (1 if kind != "features" else max(1.0, abs(known)))
                            worst[kind] = max(worst[kind], off)
                compared += 1
            receipt = post(client, "/events", event)
            sent.append(event) if receipt["accepted"] else None
            if compared == 25:
                break
        assert post(client, "/events", [e for e in sent if "id" in e])["accepted"] == 0
        request = {
            "user_id": sent[-1].get("user", "u-00001"),
            "candidates": request["candidates"],
            "features": True,
        }
        explored = _show_explored(client, now, request)
        now[0] += 60_000_000
        before = post(client, "/rank", request)["items"]
        explained = post(client, "/rank", {**request, "explain": True})["items"]
        live = service.resident.live
    assert compared == 25
    assert all(worst[kind] < most for kind, most in (("features", 1e-9), ("texts", 1e-5), ("interest", 1e-4)))
    assert all(row["reasons"] for row in explained)
    assert any(row["because"] for row in explained)

    found = build(
        read_source(ran.project.reader, service.journal.files()), ran.project.slices, datetime.now(UTC)
    )
    assert found.impressions["candidates"].to_list()[-1] == explored
    events = SliceEvents(
        *(table.drop("slice") for table in (found.items, found.impressions, found.interactions))
    )
    at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=live.at)
    nightly = advance(ran.slices.state_after(SLICES[2]), events, at)
    for grain in ("item", "user", "user_item", "attribute"):
        assert live.counts(grain).equals(nightly.counts(grain)), grain

    again = Service(_with_experiment(ran), until=SLICES[2], clock=lambda: now[0])
    again.start()
    assert _behaviour(again.rank(RankRequest.model_validate(request))["items"]) == _behaviour(before)
    answers = (again.rank(RankRequest(user_id=f"u-{n:05}", k=1)) for n in range(12))
    assert {one["arm"]: one["ranker"] for one in answers} == {
        "champion": again.health()["ranker"],
        "challenger": "1",
    }
    again.close()
