"""The columns of `feature_columns.py` in pandas: running sums by key, and `merge_asof` for what stood just before.

`t` counts microseconds since the first slice. A decayed sum is a plain sum of 2^(t/day) over the past, divided by
2^(t/day) of the present.
"""

from pathlib import Path

import numpy as np
import pandas as pd

_DAY = 86_400e6
_HALF_HOUR = 1_800_000_000
_ATTRIBUTES = ("category", "tags")


def in_pandas(folder: Path, start: pd.Timestamp) -> pd.DataFrame:
    """Every column of every candidate, in no particular order."""
    items = _read(folder, "items", ["item_id", "known_at", "numbers"])
    items["length"] = items.pop("numbers").map(lambda numbers: numbers[0]["value"])
    items["known_at"] = _micros(items["known_at"], start)
    shown = _read(folder, "candidates", ["impression_id", "user_id", "item_id", "position", "shown_at"])
    shown = shown.assign(t=_micros(shown.pop("shown_at"), start)).sort_values("t", kind="stable")
    shown = shown.reset_index(drop=True)
    clicks = _read(folder, "interactions", ["user_id", "item_id", "known_at"])
    clicks = clicks.assign(t=_micros(clicks.pop("known_at"), start)).sort_values("t", kind="stable")
    shown["list"] = pd.factorize(shown["impression_id"])[0]
    users = pd.Index(shown["user_id"].unique())
    for rows in (shown, clicks):
        rows["user"] = users.get_indexer(rows.pop("user_id"))
        rows["item"] = pd.Index(items["item_id"]).get_indexer(rows["item_id"])
        rows["pair"] = rows["user"] * len(items) + rows["item"]
        rows["g"] = 2 ** (rows["t"] / _DAY)
    clicks["length"] = items["length"].to_numpy()[clicks["item"]]
    clicks = pd.merge_asof(clicks, shown[["pair", "t", "position"]], on="t", by="pair", tolerance=_HALF_HOUR)
    placed = clicks.dropna(subset="position").astype({"position": "int32"})
    by_position = _before(shown.assign(shows=1.0), placed, "position", [], fading=False)
    shown["expected"] = _smoothed(by_position["takes"], by_position["shows"], 0.05)
    shown["shows"] = 1.0
    shown["positions"] = shown["position"].astype(float)
    lists = _lists(shown, clicks, items)
    values = _read(folder, "values", ["item_id", "attribute", "value"])
    values["item"] = pd.Index(items["item_id"]).get_indexer(values.pop("item_id"))
    values["value"] = values.groupby(["attribute", "value"]).ngroup()
    valued = shown[["list", "user", "item", "t", "g", "expected", "shows"]].reset_index(names="row")
    valued = valued.merge(values, on="item")
    valued_clicks = clicks[["user", "item", "t", "g"]].merge(values, on="item")
    for name in _ATTRIBUTES:
        _taste(lists, valued_clicks[valued_clicks["attribute"] == name], name)
    wide = lists.drop(columns="user").loc[shown["list"]].reset_index(drop=True)
    found = shown[["impression_id", "item_id"]].assign(**_of_items(shown, clicks, items, wide))
    found = pd.concat([found, wide.filter(regex="^(user|session|list|hour|weekday)")], axis=1)
    for half_life in ("1d", "all"):
        usual = found[f"user_length_usual_{half_life}"]
        found[f"user_length_gap_{half_life}"] = (found["item_length"] - usual).abs()
    for name in _ATTRIBUTES:
        told = _of_attribute(
            valued[valued["attribute"] == name], valued_clicks[valued_clicks["attribute"] == name], name, wide
        )
        found = pd.concat([found, told], axis=1)
    return found.assign(list=shown["list"])


def add_relative(found: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Adds the `{name}_z` of each name: standard deviations above the list's mean."""
    columns = found[names]
    by_list = columns.groupby(found["list"])
    at = found["list"].to_numpy()
    mean, deviation = (table.to_numpy()[at] for table in (by_list.mean(), by_list.std(ddof=0)))
    greatest = columns.abs().groupby(found["list"]).max().to_numpy()[at]
    value = columns.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(deviation > 1e-5 * greatest, (value - mean) / deviation, value * 0)
    return pd.concat([found, pd.DataFrame(z, columns=[f"{name}_z" for name in names])], axis=1)


def _read(folder: Path, name: str, columns: list[str]) -> pd.DataFrame:
    files = sorted(folder.glob(f"{name}-*.parquet"))
    return pd.concat([pd.read_parquet(file, columns=columns) for file in files], ignore_index=True)


def _micros(at: pd.Series, start: pd.Timestamp) -> pd.Series:
    return (at - start) // pd.Timedelta(microseconds=1)


def _hours(then: pd.Series, t: pd.Series) -> pd.Series:
    return (t - then) / 3.6e9


def _smoothed(part: pd.Series, whole: pd.Series, prior: pd.Series | float) -> pd.Series:
    return (part + 10 * prior) / (whole + 10)


def _over_expected(part: pd.Series, whole: pd.Series) -> pd.Series:
    return (part + 0.5) / (whole + 0.5)


def _usual(total: pd.Series, count: pd.Series, prior: pd.Series | float) -> pd.Series:
    return (total + 0.5 * prior) / (count + 0.5)


def _before(
    shown: pd.DataFrame, clicks: pd.DataFrame, key: str, quantities: list[str], *, fading: bool = True
) -> pd.DataFrame:
    """What each key held just before each row of `shown` (sorted by t): shows, takes, quantities, last instants."""
    names = ["shows", "takes", *quantities]
    given = [name for name in (key, "t", "g", *names) if name in shown]
    taken = clicks[[name for name in (key, "t", "g", *quantities) if name in clicks]]
    facts = pd.concat([shown[given].assign(takes=0.0), taken.assign(shows=0.0, takes=1.0)])
    facts = facts.sort_values("t", kind="stable", ignore_index=True)
    facts[names] = facts[names].fillna(0.0)
    sums = list(names)
    if fading:
        sums += [f"{name}_1d" for name in names]
        for name in names:
            facts[f"{name}_1d"] = facts[name] * facts["g"]
    facts["taken_t"] = facts["t"].where(facts["takes"] > 0, -np.inf)
    by_key = facts.groupby(key, sort=False)
    totals = by_key[sums].cumsum().assign(taken_t=by_key["taken_t"].cummax())
    totals = totals.assign(last_t=facts["t"], **{key: facts[key]})
    found = pd.merge_asof(
        shown[[key, "t"]], totals, left_on="t", right_on="last_t", by=key, allow_exact_matches=False
    )
    found[sums] = found[sums].fillna(0.0)
    if fading:
        for name in names:
            found[f"{name}_1d"] /= shown["g"]
    found["taken_t"] = found["taken_t"].replace(-np.inf, np.nan)
    return found.drop(columns=[key, "t"])


def _lists(shown: pd.DataFrame, clicks: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    by_list = shown.groupby("list")
    lists = (
        by_list[["user", "t", "g"]].first().assign(shows=by_list.size(), expected=by_list["expected"].sum())
    )
    lists["shows"] = lists["shows"].astype(float)
    lists["every"] = 0
    every = _before(lists, clicks.assign(every=0), "every", ["length"])
    own = _before(lists, clicks, "user", ["expected", "length"])
    told = lists[["user", "t"]].assign(number=lists.index, list_size=lists["shows"])
    for half_life, tail in (("1d", "_1d"), ("all", "")):
        shows, takes = own[f"shows{tail}"], own[f"takes{tail}"]
        told[f"prior_{half_life}"] = _smoothed(every[f"takes{tail}"], every[f"shows{tail}"], 0.05)
        told[f"user_exposures_{half_life}"], told[f"user_clicks_{half_life}"] = shows, takes
        told[f"user_ctr_{half_life}"] = _smoothed(takes, shows, told[f"prior_{half_life}"])
        told[f"user_coec_{half_life}"] = _over_expected(takes, own[f"expected{tail}"])
        usual = _usual(every[f"length{tail}"], every[f"takes{tail}"], 0.0)
        told[f"user_length_usual_{half_life}"] = _usual(own[f"length{tail}"], takes, usual)
    told["user_trend"] = told["user_ctr_1d"] / told["user_ctr_all"]
    told["user_hours_since"] = _hours(own["last_t"], told["t"])
    told["user_hours_since_click"] = _hours(own["taken_t"], told["t"])
    told["hour"] = told["t"] // 3_600_000_000 % 24
    told["weekday"] = told["t"] // 86_400_000_000 % 7 + 1
    return _with_sessions(told)


def _with_sessions(lists: pd.DataFrame) -> pd.DataFrame:
    told = lists.sort_values(["user", "t"], kind="stable")
    session = ((told["user"].diff() != 0) | (told["t"].diff() > _HALF_HOUR)).cumsum()
    first = told.groupby(session)[["t", "user_exposures_all", "user_clicks_all"]].transform("first")
    told["session_lists"] = told.groupby(session)["t"].rank("min") - 1
    told["session_exposures"] = told["user_exposures_all"] - first["user_exposures_all"]
    told["session_clicks"] = told["user_clicks_all"] - first["user_clicks_all"]
    told["session_ctr"] = _smoothed(told["session_clicks"], told["session_exposures"], 0.05)
    told["session_minutes"] = 60 * _hours(first["t"], told["t"])
    return told.sort_index()


def _taste(lists: pd.DataFrame, clicks: pd.DataFrame, name: str) -> None:
    """Entropy of the user's takes over an attribute's values: ln N − Σ n·ln n / N."""
    n = clicks.groupby(["user", "value"]).cumcount()
    spread = (n + 1) * np.log(n + 1) - n * np.log(n.clip(lower=1))
    past = _before(
        lists[["user", "t"]].assign(shows=0.0), clicks.assign(spread=spread), "user", ["spread"], fading=False
    )
    lists[f"user_{name}_entropy"] = (
        np.log(past["takes"].where(past["takes"] > 0)) - past["spread"] / past["takes"]
    )


def _of_items(
    shown: pd.DataFrame, clicks: pd.DataFrame, items: pd.DataFrame, lists: pd.DataFrame
) -> dict[str, pd.Series]:
    own = _before(shown, clicks[["item", "t", "g"]], "item", ["expected", "positions"])
    pair = _before(shown[["pair", "t", "shows"]], clicks, "pair", [], fading=False)
    told: dict[str, pd.Series] = {}
    for half_life, tail in (("1d", "_1d"), ("all", "")):
        shows, takes = own[f"shows{tail}"], own[f"takes{tail}"]
        told[f"item_exposures_{half_life}"], told[f"item_clicks_{half_life}"] = shows, takes
        told[f"item_ctr_{half_life}"] = _smoothed(takes, shows, lists[f"prior_{half_life}"])
        told[f"item_coec_{half_life}"] = _over_expected(takes, own[f"expected{tail}"])
        told[f"item_position_{half_life}"] = _smoothed(own[f"positions{tail}"], shows, 1.0)
    said = items.iloc[shown["item"]].reset_index(drop=True)
    return told | {
        "item_trend": told["item_ctr_1d"] / told["item_ctr_all"],
        "item_age_hours": _hours(said["known_at"], shown["t"]),
        "item_hours_since_shown": _hours(own["last_t"], shown["t"]),
        "item_hours_since_click": _hours(own["taken_t"], shown["t"]),
        "item_length": said["length"],
        "pair_seen": (pair["shows"] > 0).astype(float),
        "pair_exposures": pair["shows"],
        "pair_clicks": pair["takes"],
        "pair_skips": pair["shows"] - pair["takes"],
        "pair_hours_since": _hours(pair["last_t"], shown["t"]),
        "pair_hours_since_click": _hours(pair["taken_t"], shown["t"]),
    }


def _of_attribute(valued: pd.DataFrame, clicks: pd.DataFrame, name: str, lists: pd.DataFrame) -> pd.DataFrame:
    valued = valued.reset_index(drop=True)
    span = int(valued["value"].max()) + 1
    own_key = {"own": valued["user"] * span + valued["value"]}
    every = _before(valued, clicks, "value", ["expected"])
    own = _before(
        valued[["t", "g", "shows"]].assign(**own_key),
        clicks[["t", "g"]].assign(own=clicks["user"] * span + clicks["value"]),
        "own",
        [],
    )
    in_list = valued["list"] * span + valued["value"]
    every["shared"] = valued.groupby(in_list)["row"].transform("size")
    own["known"] = (own["takes"] > 0).astype(float)
    by_row = pd.concat([every.drop(columns=["last_t", "taken_t"]), own.add_prefix("own_")], axis=1).groupby(
        valued["row"]
    )
    latest = by_row[["own_last_t", "own_taken_t"]].max()
    known = by_row["own_known"].mean()
    by_row = by_row.sum().assign(**{column: latest[column] for column in latest})
    told: dict[str, pd.Series] = {}
    size, t = lists["list_size"], lists["t"]
    distinct = valued[~in_list.duplicated()].groupby("list").size()
    told[f"list_{name}_variety"] = lists["number"].map(distinct) / size
    told[f"list_{name}_shared"] = by_row["shared"] / size
    for half_life, tail in (("1d", "_1d"), ("all", "")):
        prior, user = lists[f"prior_{half_life}"], lists[f"user_ctr_{half_life}"]
        shows, takes = by_row[f"shows{tail}"], by_row[f"takes{tail}"]
        own_shows, own_takes = by_row[f"own_shows{tail}"], by_row[f"own_takes{tail}"]
        told[f"item_{name}_exposures_{half_life}"] = shows
        told[f"item_{name}_ctr_{half_life}"] = rate = _smoothed(takes, shows, prior)
        told[f"item_{name}_coec_{half_life}"] = _over_expected(takes, by_row[f"expected{tail}"])
        told[f"user_{name}_clicks_{half_life}"] = own_takes
        told[f"user_{name}_passed_{half_life}"] = own_shows - own_takes
        told[f"user_{name}_ctr_{half_life}"] = own_rate = _smoothed(own_takes, own_shows, user)
        told[f"user_{name}_lift_{half_life}"] = own_rate / rate
        told[f"user_{name}_share_{half_life}"] = own_takes / (lists[f"user_clicks_{half_life}"] + 10)
    told[f"item_{name}_trend"] = told[f"item_{name}_ctr_1d"] / told[f"item_{name}_ctr_all"]
    told[f"user_{name}_hours_since"] = _hours(by_row["own_last_t"], t)
    told[f"user_{name}_hours_since_click"] = _hours(by_row["own_taken_t"], t)
    told[f"user_{name}_known"] = known
    return pd.DataFrame(told)
