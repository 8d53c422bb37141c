from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from features.config.sections import Experiment
from models.evaluation.experiment import compare, in_challenger, user_sums, verdict

CONFIG = Experiment(
    challenger_share=0.4, challenger="7", since=datetime(2026, 1, 5, tzinfo=UTC), min_lift=0.2
)
USERS = pl.Series([f"u{n}" for n in range(1500)])


def _candidates(lift: float, lists: float = 1.0) -> pl.DataFrame:
    """Candidates of USERS; the challenger's have `1 + lift` times the clicks, and `lists` times the impressions."""
    random = np.random.default_rng(3)
    challenged = in_challenger(USERS, 0.4, 1).to_numpy()
    count = np.where(challenged, 4 * lists, 4).astype(int) * 10
    count += 10 * random.integers(0, 3, count.size)
    user = np.repeat(np.arange(USERS.len()), count)
    clicked = random.random(user.size) < np.where(challenged, 0.1 * (1 + lift), 0.1)[user]
    return pl.DataFrame(
        {
            "user_id": USERS[user],
            "impression_id": (np.arange(user.size) // 10).astype(str),
            "clicked": clicked,
        }
    ).with_columns(label=pl.col("clicked").cast(pl.Float64))


def test_users_are_assigned_by_the_share_and_always_alike() -> None:
    challenged = in_challenger(USERS, 0.4, 1)
    assert challenged.mean() == pytest.approx(0.4, abs=0.04)
    assert in_challenger(USERS.reverse(), 0.4, 1).reverse().equals(challenged)
    assert not in_challenger(USERS, 0.4, 2).equals(challenged)
    # A larger share moves nobody back to the champion.
    assert (in_challenger(USERS, 0.6, 1) | ~challenged).all()


@pytest.mark.parametrize(
    ("lift", "lists", "said"),
    [
        (0.0, 1, "undecided"),
        (0.4, 1, "challenger is better"),
        (-0.3, 1, "harms label"),
        (0.4, 0.5, "harms imp"),
    ],
)
def test_the_verdict_follows_the_figures(lift: float, lists: float, said: str) -> None:
    figures = compare(user_sums(_candidates(lift, lists)), CONFIG, 1)
    assert figures["metric"].to_list() == ["click_rate", "label", "impressions_per_user"]
    assert figures["challenger"][0] == pytest.approx(0.1 * (1 + lift), rel=0.1)
    assert said in verdict(figures)


def test_missing_users_make_the_figures_invalid() -> None:
    rows = _candidates(0.4)
    lost = in_challenger(rows["user_id"], 0.4, 1) & rows["user_id"].str.contains("[345]$")
    assert "not valid" in verdict(compare(user_sums(rows.filter(~lost)), CONFIG, 1))
