"""The registered ranker serves through plain MLflow: in this process, without this project, and over HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import lightgbm
import mlflow
import numpy as np
import pandas
import polars as pl
import pytest

from features.catalogue import catalogue
from features.config.project import load
from models.ranker import Ranker
from models.ranker.served_ranker import ServedRanker
from models.ranking import order

SECONDS = 60
"""Longest wait for a server on a busy machine."""


def served_by(ranker: Ranker, folder: Path) -> ServedRanker:
    """The ranker, saved and loaded by the file that a version ships."""
    ranker.save(folder)
    return ServedRanker(folder)


@pytest.fixture
def served(ranker, tmp_path) -> ServedRanker:
    return served_by(ranker, tmp_path / "served")


@pytest.fixture
def rows(example, ranker) -> pandas.DataFrame:
    """Candidates of two impressions, mixed, two of them equal except for their ids, one value missing."""
    frame = example.head(100).with_columns(pl.col(ranker.columns).cast(pl.Float64))
    twin = frame.head(1).with_columns(item_id=pl.lit("twin"))
    frame = pl.concat([frame.slice(1), twin, frame.head(1)]).tail(100)
    with_gap = pl.when(pl.int_range(100) == 5).then(None).otherwise(pl.col("user_clicks_7d"))
    return frame.with_columns(user_clicks_7d=with_gap).to_pandas()


def test_rows_are_ranked_by_impression_as_in_the_project(ranker, served, rows):
    shuffled = rows.sample(frac=1.0, random_state=4)

    ranked = served.predict(shuffled)

    assert ranked.index.equals(shuffled.index)
    assert list(ranked.columns) == ["rank", "rank_score", "click_probability"]
    frame = pl.from_pandas(shuffled)
    scored = frame.with_columns(ranker.score(frame)).with_columns(
        pl.Series("served_rank", ranked["rank"].to_numpy())
    )
    expected = order(scored, score="rank_score")
    assert expected["rank"].equals(expected["served_rank"].rename("rank"))
    assert expected["impression_id"].n_unique() == 2
    np.testing.assert_array_equal(ranked["rank_score"], scored["rank_score"])
    np.testing.assert_array_equal(ranked["click_probability"], ranker.probability(scored["rank_score"]))


def test_missing_columns_are_named(served, rows):
    with pytest.raises(
        ValueError, match=r"needs the columns user_clicks_7d, interest_score; found item_ctr_1d"
    ):
        served.predict(rows.drop(columns=["user_clicks_7d", "interest_score"]))
    with pytest.raises(ValueError, match="needs the columns impression_id; found item_ctr_1d"):
        served.predict(rows.drop(columns=["impression_id"]))
    with pytest.raises(ValueError, match="could not convert string to float: 'many'"):
        served.predict(rows.assign(user_clicks_7d="many"))


def test_few_rows_missing_values_and_empty_frames_are_ranked(served, rows):
    unknown = rows.head(3).assign(user_clicks_7d=None)

    assert sorted(served.predict(unknown)["rank"]) == sorted(served.predict(rows.head(3))["rank"])
    assert served.predict(unknown)["rank_score"].notna().all()
    assert served.predict(rows.head(0)).shape == (0, 3)


def test_plain_mlflow_loads_the_champion_and_predicts(registry, register, ranker, served, rows):
    registry.promote(register("2026-01-05"))

    mlflow.set_tracking_uri(registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/newsroom-ranker@champion")

    pandas.testing.assert_frame_equal(model.predict(rows), served.predict(rows))
    pandas.testing.assert_frame_equal(model.predict(rows.assign(other=1)), model.predict(rows))
    assert model.metadata.signature.inputs.input_names() == ["impression_id", "item_id", *ranker.columns]
    assert model.metadata.signature.outputs.input_names() == ["rank", "rank_score", "click_probability"]
    assert model.predict(model.input_example).shape == (5, 3)
    assert model.predict(rows.assign(user_clicks_7d=None))["rank_score"].notna().all()
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs.*user_clicks_7d"):
        model.predict(rows.drop(columns="user_clicks_7d"))
    needs = mlflow.pyfunc.get_model_dependencies("models:/newsroom-ranker@champion")
    pinned = {line.partition("==")[0] for line in Path(needs).read_text().splitlines() if "==" in line}
    assert pinned == {"lightgbm", "numpy", "pandas", "mlflow"}


@pytest.fixture
def newsroom(pytestconfig, ranker) -> tuple[Ranker, pl.DataFrame]:
    """A ranker of the size and columns of newsroom's, and 100 candidates of one impression."""
    project = load(pytestconfig.rootpath / "projects" / "newsroom.toml")
    columns = (*catalogue(project.behaviour)["name"], "interest_score", "interest_score_z")
    random = np.random.default_rng(3)
    values, label = random.random((1000, len(columns))).astype(np.float32), random.random(1000)
    settings = {"verbosity": -1, "num_threads": 1, "num_leaves": 15, "min_data_in_leaf": 5}
    booster = lightgbm.train(settings, lightgbm.Dataset(values, label=label), 100)
    candidates = pl.DataFrame(values[:100], schema=list(columns)).with_columns(
        pl.all().cast(pl.Float64),
        impression_id=pl.lit("request"),
        item_id=pl.lit("item-") + pl.int_range(100).cast(pl.String),
    )
    with_gap = candidates.with_columns(interest_score=pl.lit(None, pl.Float64))
    return Ranker((booster,), columns, ranker.info, ranker.calibration), with_gap


@pytest.fixture
def server(registry, register, newsroom, application, tmp_path) -> Iterator[str]:
    """`mlflow models serve` of the champion, started inside another application; its address on loopback."""
    ranker, candidates = newsroom
    registry.promote(register("2026-01-05", ranker=ranker, example=candidates.head(5)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "server.log").open("wb")
    options = ["-m", "models:/newsroom-ranker@champion", "--env-manager", "local", "--port", str(port)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            *options,
            "--host",
            "127.0.0.1",
            "--workers",
            "1",
        ],
        cwd=application.folder,
        env=application.environment(
            MLFLOW_TRACKING_URI=registry.tracking_uri,
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        ),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        if not is_ready(address, process):
            pytest.skip(f"mlflow models serve did not start: {(tmp_path / 'server.log').read_text()[-500:]}")
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(10)
        log.close()


def is_ready(address: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False


def post(address: str, body: bytes) -> pandas.DataFrame:
    request = urllib.request.Request(
        f"{address}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return pandas.DataFrame(json.load(reply)["predictions"])


def test_a_server_ranks_the_documented_request_as_predict_does(server, newsroom, tmp_path):
    ranker, candidates = newsroom
    rows = candidates.to_pandas()
    split = rows.astype(object).where(rows.notna(), None).to_dict(orient="split", index=False)
    body = json.dumps({"dataframe_split": split}).encode()

    ranked = post(server, body)

    expected = served_by(ranker, tmp_path / "large").predict(rows)
    assert (ranked["rank"] == expected["rank"]).all()
    np.testing.assert_allclose(ranked["rank_score"], expected["rank_score"], rtol=1e-12)
    np.testing.assert_allclose(ranked["click_probability"], expected["click_probability"], rtol=1e-12)
    milliseconds = []
    for _ in range(100):
        started = time.perf_counter()
        post(server, body)
        milliseconds.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(milliseconds, [50, 99])
    size = f"{len(rows)} candidates of {len(ranker.columns)} columns"
    print(f"{size}: p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(milliseconds)} requests")
    assert p50 < 1000

    without = {name: split[name] for name in ("columns", "data")}
    without["columns"] = ["other" if name == "interest_score" else name for name in split["columns"]]
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, json.dumps({"dataframe_split": without}).encode())
    assert refused.value.code == 400
    assert "interest_score" in refused.value.read().decode()
