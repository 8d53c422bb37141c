"""The columns of `feature_columns.py` in pandas: running sums by key, joined strictly before each row by `merge_asof`.

`t` counts microseconds since the first slice. A decayed sum is the sum of 2^(t/day) over the past divided by 2^(t/day)
of the present.
"""

from pathlib import Path

import numpy as np
import pandas as pd

_DAY = 86_400e6
_HALF_HOUR = 1_800_000_000
_ATTRIBUTES = ("category", "tags")


def in_pandas(folder: Path, start: pd.Timestamp) -> pd.DataFrame:
    """Return every column of every candidate, in no particular order."""
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
    positioned = clicks.dropna(subset="position").astype({"position": "int32"})
    by_position = _before(shown.assign(exposures=1.0), positioned, "position", [], decay=False)
    shown["expected"] = _smoothed(by_position["clicks"], by_position["exposures"], 0.05)
    shown["exposures"] = 1.0
    shown["positions"] = shown["position"].astype(float)
    lists = _lists(shown, clicks, items)
    values = _read(folder, "values", ["item_id", "attribute", "value"])
    values["item"] = pd.Index(items["item_id"]).get_indexer(values.pop("item_id"))
    values["value"] = values.groupby(["attribute", "value"]).ngroup()
    valued = shown[["list", "user", "item", "t", "g", "expected", "exposures"]].reset_index(names="row")
    valued = valued.merge(values, on="item")
    valued_clicks = clicks[["user", "item", "t", "g"]].merge(values, on="item")
    for name in _ATTRIBUTES:
        _add_entropy(lists, valued_clicks[valued_clicks["attribute"] == name], name)
    wide = lists.drop(columns="user").loc[shown["list"]].reset_index(drop=True)
    columns = shown[["impression_id", "item_id"]].assign(**_of_items(shown, clicks, items, wide))
    columns = pd.concat([columns, wide.filter(regex="^(user|session|list|hour|weekday)")], axis=1)
    for half_life in ("1d", "all"):
        usual = columns[f"user_length_usual_{half_life}"]
        columns[f"user_length_gap_{half_life}"] = (columns["item_length"] - usual).abs()
    for name in _ATTRIBUTES:
        of_attribute = _of_attribute(
            valued[valued["attribute"] == name], valued_clicks[valued_clicks["attribute"] == name], name, wide
        )
        columns = pd.concat([columns, of_attribute], axis=1)
    return columns.assign(list=shown["list"])


def add_relative(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Add `{name}_z` for each name: standard deviations above the impression's mean."""
    columns = table[names]
    by_list = columns.groupby(table["list"])
    at = table["list"].to_numpy()
    mean, deviation = (table.to_numpy()[at] for table in (by_list.mean(), by_list.std(ddof=0)))
    greatest = columns.abs().groupby(table["list"]).max().to_numpy()[at]
    value = columns.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(deviation > 1e-5 * greatest, (value - mean) / deviation, value * 0)
    return pd.concat([table, pd.DataFrame(z, columns=[f"{name}_z" for name in names])], axis=1)


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
    shown: pd.DataFrame, clicks: pd.DataFrame, key: str, quantities: list[str], *, decay: bool = True
) -> pd.DataFrame:
    """Sums and last instants of each key, strictly before each row of `shown` (sorted by t)."""
    names = ["exposures", "clicks", *quantities]
    shown_columns = [name for name in (key, "t", "g", *names) if name in shown]
    click_rows = clicks[[name for name in (key, "t", "g", *quantities) if name in clicks]]
    events = pd.concat(
        [shown[shown_columns].assign(clicks=0.0), click_rows.assign(exposures=0.0, clicks=1.0)]
    )
    events = events.sort_values("t", kind="stable", ignore_index=True)
    events[names] = events[names].fillna(0.0)
    sums = list(names)
    if decay:
        sums += [f"{name}_1d" for name in names]
        for name in names:
            events[f"{name}_1d"] = events[name] * events["g"]
    events["click_t"] = events["t"].where(events["clicks"] > 0, -np.inf)
    by_key = events.groupby(key, sort=False)
    totals = by_key[sums].cumsum().assign(click_t=by_key["click_t"].cummax())
    totals = totals.assign(last_t=events["t"], **{key: events[key]})
    before = pd.merge_asof(
        shown[[key, "t"]], totals, left_on="t", right_on="last_t", by=key, allow_exact_matches=False
    )
    before[sums] = before[sums].fillna(0.0)
    if decay:
        for name in names:
            before[f"{name}_1d"] /= shown["g"]
    before["click_t"] = before["click_t"].replace(-np.inf, np.nan)
    return before.drop(columns=[key, "t"])


def _lists(shown: pd.DataFrame, clicks: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    by_list = shown.groupby("list")
    lists = (
        by_list[["user", "t", "g"]]
        .first()
        .assign(exposures=by_list.size(), expected=by_list["expected"].sum())
    )
    lists["exposures"] = lists["exposures"].astype(float)
    lists["every"] = 0
    every = _before(lists, clicks.assign(every=0), "every", ["length"])
    own = _before(lists, clicks, "user", ["expected", "length"])
    columns = lists[["user", "t"]].assign(number=lists.index, list_size=lists["exposures"])
    for half_life, tail in (("1d", "_1d"), ("all", "")):
        exposures, clicks = own[f"exposures{tail}"], own[f"clicks{tail}"]
        columns[f"prior_{half_life}"] = _smoothed(every[f"clicks{tail}"], every[f"exposures{tail}"], 0.05)
        columns[f"user_exposures_{half_life}"], columns[f"user_clicks_{half_life}"] = exposures, clicks
        columns[f"user_ctr_{half_life}"] = _smoothed(clicks, exposures, columns[f"prior_{half_life}"])
        columns[f"user_coec_{half_life}"] = _over_expected(clicks, own[f"expected{tail}"])
        usual = _usual(every[f"length{tail}"], every[f"clicks{tail}"], 0.0)
        columns[f"user_length_usual_{half_life}"] = _usual(own[f"length{tail}"], clicks, usual)
    columns["user_trend"] = columns["user_ctr_1d"] / columns["user_ctr_all"]
    columns["user_hours_since"] = _hours(own["last_t"], columns["t"])
    columns["user_hours_since_click"] = _hours(own["click_t"], columns["t"])
    columns["hour"] = columns["t"] // 3_600_000_000 % 24
    columns["weekday"] = columns["t"] // 86_400_000_000 % 7 + 1
    return _with_sessions(columns)


def _with_sessions(lists: pd.DataFrame) -> pd.DataFrame:
    columns = lists.sort_values(["user", "t"], kind="stable")
    session = ((columns["user"].diff() != 0) | (columns["t"].diff() > _HALF_HOUR)).cumsum()
    first = columns.groupby(session)[["t", "user_exposures_all", "user_clicks_all"]].transform("first")
    columns["session_lists"] = columns.groupby(session)["t"].rank("min") - 1
    columns["session_exposures"] = columns["user_exposures_all"] - first["user_exposures_all"]
    columns["session_clicks"] = columns["user_clicks_all"] - first["user_clicks_all"]
    columns["session_ctr"] = _smoothed(columns["session_clicks"], columns["session_exposures"], 0.05)
    columns["session_minutes"] = 60 * _hours(first["t"], columns["t"])
    return columns.sort_index()


def _add_entropy(lists: pd.DataFrame, clicks: pd.DataFrame, name: str) -> None:
    """Add the entropy of the user's clicks over an attribute's values: ln N − Σ n·ln n / N."""
    n = clicks.groupby(["user", "value"]).cumcount()
    spread = (n + 1) * np.log(n + 1) - n * np.log(n.clip(lower=1))
    past = _before(
        lists[["user", "t"]].assign(exposures=0.0),
        clicks.assign(spread=spread),
        "user",
        ["spread"],
        decay=False,
    )
    lists[f"user_{name}_entropy"] = (
        np.log(past["clicks"].where(past["clicks"] > 0)) - past["spread"] / past["clicks"]
    )


def _of_items(
    shown: pd.DataFrame, clicks: pd.DataFrame, items: pd.DataFrame, lists: pd.DataFrame
) -> dict[str, pd.Series]:
    own = _before(shown, clicks[["item", "t", "g"]], "item", ["expected", "positions"])
    pair = _before(shown[["pair", "t", "exposures"]], clicks, "pair", [], decay=False)
    columns: dict[str, pd.Series] = {}
    for half_life, tail in (("1d", "_1d"), ("all", "")):
        exposures, clicks = own[f"exposures{tail}"], own[f"clicks{tail}"]
        columns[f"item_exposures_{half_life}"], columns[f"item_clicks_{half_life}"] = exposures, clicks
        columns[f"item_ctr_{half_life}"] = _smoothed(clicks, exposures, lists[f"prior_{half_life}"])
        columns[f"item_coec_{half_life}"] = _over_expected(clicks, own[f"expected{tail}"])
        columns[f"item_position_{half_life}"] = _smoothed(own[f"positions{tail}"], exposures, 1.0)
    described = items.iloc[shown["item"]].reset_index(drop=True)
    return columns | {
        "item_trend": columns["item_ctr_1d"] / columns["item_ctr_all"],
        "item_age_hours": _hours(described["known_at"], shown["t"]),
        "item_hours_since_shown": _hours(own["last_t"], shown["t"]),
        "item_hours_since_click": _hours(own["click_t"], shown["t"]),
        "item_length": described["length"],
        "pair_seen": (pair["exposures"] > 0).astype(float),
        "pair_exposures": pair["exposures"],
        "pair_clicks": pair["clicks"],
        "pair_skips": pair["exposures"] - pair["clicks"],
        "pair_hours_since": _hours(pair["last_t"], shown["t"]),
        "pair_hours_since_click": _hours(pair["click_t"], shown["t"]),
    }


def _of_attribute(valued: pd.DataFrame, clicks: pd.DataFrame, name: str, lists: pd.DataFrame) -> pd.DataFrame:
    valued = valued.reset_index(drop=True)
    span = int(valued["value"].max()) + 1
    own_key = {"own": valued["user"] * span + valued["value"]}
    every = _before(valued, clicks, "value", ["expected"])
    own = _before(
        valued[["t", "g", "exposures"]].assign(**own_key),
        clicks[["t", "g"]].assign(own=clicks["user"] * span + clicks["value"]),
        "own",
        [],
    )
    in_list = valued["list"] * span + valued["value"]
    every["shared"] = valued.groupby(in_list)["row"].transform("size")
    own["known"] = (own["clicks"] > 0).astype(float)
    by_row = pd.concat([every.drop(columns=["last_t", "click_t"]), own.add_prefix("own_")], axis=1).groupby(
        valued["row"]
    )
    latest = by_row[["own_last_t", "own_click_t"]].max()
    known = by_row["own_known"].mean()
    by_row = by_row.sum().assign(**{column: latest[column] for column in latest})
    columns: dict[str, pd.Series] = {}
    size, t = lists["list_size"], lists["t"]
    distinct = valued[~in_list.duplicated()].groupby("list").size()
    columns[f"list_{name}_variety"] = lists["number"].map(distinct) / size
    columns[f"list_{name}_shared"] = by_row["shared"] / size
    for half_life, tail in (("1d", "_1d"), ("all", "")):
        prior, user = lists[f"prior_{half_life}"], lists[f"user_ctr_{half_life}"]
        exposures, clicks = by_row[f"exposures{tail}"], by_row[f"clicks{tail}"]
        own_exposures, own_clicks = by_row[f"own_exposures{tail}"], by_row[f"own_clicks{tail}"]
        columns[f"item_{name}_exposures_{half_life}"] = exposures
        columns[f"item_{name}_ctr_{half_life}"] = rate = _smoothed(clicks, exposures, prior)
        columns[f"item_{name}_coec_{half_life}"] = _over_expected(clicks, by_row[f"expected{tail}"])
        columns[f"user_{name}_clicks_{half_life}"] = own_clicks
        columns[f"user_{name}_skips_{half_life}"] = own_exposures - own_clicks
        columns[f"user_{name}_ctr_{half_life}"] = own_rate = _smoothed(own_clicks, own_exposures, user)
        columns[f"user_{name}_lift_{half_life}"] = own_rate / rate
        columns[f"user_{name}_share_{half_life}"] = own_clicks / (lists[f"user_clicks_{half_life}"] + 10)
    columns[f"item_{name}_trend"] = columns[f"item_{name}_ctr_1d"] / columns[f"item_{name}_ctr_all"]
    columns[f"user_{name}_hours_since"] = _hours(by_row["own_last_t"], t)
    columns[f"user_{name}_hours_since_click"] = _hours(by_row["own_click_t"], t)
    columns[f"user_{name}_known"] = known
    return pd.DataFrame(columns)
