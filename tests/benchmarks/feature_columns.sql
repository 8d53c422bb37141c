-- The columns of `feature_columns.py` in DuckDB, one statement a step, on views `candidates`, `interactions`, `items`, `values`.
-- `t` counts microseconds since the first slice; window frames exclude the row's own instant: strictly before.
-- The text between `each` and `end` is repeated for each attribute, or for each column with a z-score.
-- A decayed sum is the sum of 2^(t/h) over the past divided by 2^(t/h) of the present (h: one day).

CREATE MACRO instant(stamp) AS epoch_us(stamp) - epoch_us(TIMESTAMPTZ '2026-01-05 00:00:00+00');
CREATE MACRO hours(since, t) AS (t - since) / 3.6e9;
CREATE MACRO smoothed(part, whole, prior) AS (part + 10 * prior) / (whole + 10);
CREATE MACRO over_expected(part, whole) AS (part + 0.5) / (whole + 0.5);
CREATE MACRO usual(total, count, prior) AS (total + 0.5 * prior) / (count + 0.5);
CREATE MACRO spread(n) AS CASE WHEN n > 0 THEN n * ln(n) ELSE 0 END;
CREATE MACRO z(v, mean, deviation, greatest) AS
    CASE WHEN deviation > 1e-5 * greatest THEN (v - mean) / deviation ELSE v * 0 END;

CREATE TEMP TABLE raw AS
SELECT row_number() OVER () AS "row", impression_id, user_id, item_id, position, instant(shown_at) AS t
FROM candidates;

-- A click gets the position of the user's last exposure to the item, within half an hour.
CREATE TEMP TABLE clicks AS
WITH done AS (
    SELECT user_id, item_id, instant(interactions.known_at) AS t, numbers[1].value AS length
    FROM interactions JOIN items USING (item_id)
)
SELECT done.user_id, done.item_id, done.length, done.t, pow(2, done.t / 86400e6) AS g,
    CASE WHEN done.t - raw.t <= 1800e6 THEN raw.position END AS position
FROM done ASOF LEFT JOIN raw ON done.user_id = raw.user_id AND done.item_id = raw.item_id AND done.t >= raw.t;

CREATE TEMP TABLE shown AS
SELECT * EXCLUDE (exposures, clicks), pow(2, t / 86400e6) AS g,
    smoothed(coalesce(sum(clicks) OVER before, 0), coalesce(sum(exposures) OVER before, 0), 0.05) AS expected
FROM (
    SELECT *, 1.0::DOUBLE AS exposures, 0.0::DOUBLE AS clicks FROM raw
    UNION ALL BY NAME
    SELECT position, t, 0.0::DOUBLE AS exposures, 1.0::DOUBLE AS clicks FROM clicks WHERE position IS NOT NULL
)
WINDOW before AS (PARTITION BY position ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
QUALIFY "row" IS NOT NULL;

CREATE TEMP TABLE of_items AS
SELECT "row", impression_id, item_id, t, g,
    coalesce(sum(1 - click) OVER item, 0) AS exposures, coalesce(sum((1 - click) * g) OVER item, 0) / g AS exposures_1d,
    coalesce(sum(click) OVER item, 0) AS clicks, coalesce(sum(click * g) OVER item, 0) / g AS clicks_1d,
    coalesce(sum(expected) OVER item, 0) AS expected, coalesce(sum(expected * g) OVER item, 0) / g AS expected_1d,
    coalesce(sum(position) OVER item, 0) AS positions, coalesce(sum(position * g) OVER item, 0) / g AS positions_1d,
    max(t) OVER item AS last_t, max(click_t) OVER item AS click_t,
    coalesce(sum(1 - click) OVER pair, 0) AS pair_exposures, coalesce(sum(click) OVER pair, 0) AS pair_clicks,
    max(t) OVER pair AS pair_last_t, max(click_t) OVER pair AS pair_click_t
FROM (
    SELECT *, 0.0::DOUBLE AS click FROM shown
    UNION ALL BY NAME
    SELECT user_id, item_id, t, g, 1.0::DOUBLE AS click, 0 AS position, 0.0::DOUBLE AS expected, t AS click_t FROM clicks
)
WINDOW item AS (PARTITION BY item_id ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
    pair AS (PARTITION BY user_id, item_id ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
QUALIFY "row" IS NOT NULL;

CREATE TEMP TABLE valued AS
SELECT "row", impression_id, user_id, attribute, value, t, g, expected,
    count(*) OVER (PARTITION BY impression_id, attribute, value) AS shared
FROM shown JOIN values USING (item_id);

CREATE TEMP TABLE valued_clicks AS
SELECT user_id, attribute, value, t, g FROM clicks JOIN values USING (item_id);

CREATE TEMP TABLE of_values AS
WITH counted AS (
    SELECT "row", attribute, shared,
        coalesce(sum(1 - click) OVER every, 0) AS exposures, coalesce(sum((1 - click) * g) OVER every, 0) / g AS exposures_1d,
        coalesce(sum(click) OVER every, 0) AS clicks, coalesce(sum(click * g) OVER every, 0) / g AS clicks_1d,
        coalesce(sum(expected) OVER every, 0) AS expected, coalesce(sum(expected * g) OVER every, 0) / g AS expected_1d,
        coalesce(sum(1 - click) OVER own, 0) AS own_exposures, coalesce(sum((1 - click) * g) OVER own, 0) / g AS own_exposures_1d,
        coalesce(sum(click) OVER own, 0) AS own_clicks, coalesce(sum(click * g) OVER own, 0) / g AS own_clicks_1d,
        max(t) OVER own AS last_t, max(click_t) OVER own AS click_t
    FROM (
        SELECT *, 0.0::DOUBLE AS click FROM valued
        UNION ALL BY NAME
        SELECT *, 1.0::DOUBLE AS click, 0.0::DOUBLE AS expected, t AS click_t FROM valued_clicks
    )
    WINDOW every AS (PARTITION BY attribute, value ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
        own AS (PARTITION BY user_id, attribute, value ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
    QUALIFY "row" IS NOT NULL
)
SELECT "row", attribute, sum(shared) AS shared, sum(exposures) AS exposures, sum(exposures_1d) AS exposures_1d, sum(clicks) AS clicks, sum(clicks_1d) AS clicks_1d,
    sum(expected) AS expected, sum(expected_1d) AS expected_1d, sum(own_exposures) AS own_exposures,
    sum(own_exposures_1d) AS own_exposures_1d, sum(own_clicks) AS own_clicks, sum(own_clicks_1d) AS own_clicks_1d,
    max(last_t) AS last_t, max(click_t) AS click_t, count(*) FILTER (own_clicks > 0) / count(*) AS known
FROM counted GROUP BY "row", attribute;

CREATE TEMP TABLE variety AS
SELECT impression_id
    /* each attribute */
    , sum(1 / shared) FILTER (attribute = 'NAME') AS NAME
    /* end */
FROM valued GROUP BY impression_id;

CREATE TEMP TABLE lists AS
SELECT impression_id, any_value(user_id) AS user_id, any_value(t) AS t, any_value(g) AS g,
    count(*)::DOUBLE AS size, sum(expected) AS expected
FROM shown GROUP BY impression_id;

CREATE TEMP TABLE of_lists AS
WITH counted AS (
    SELECT impression_id, user_id, t, g, size,
        coalesce(sum(size) OVER everything, 0) AS all_exposures, coalesce(sum(size * g) OVER everything, 0) / g AS all_exposures_1d,
        coalesce(sum(click) OVER everything, 0) AS all_clicks, coalesce(sum(click * g) OVER everything, 0) / g AS all_clicks_1d,
        coalesce(sum(length) OVER everything, 0) AS all_length, coalesce(sum(length * g) OVER everything, 0) / g AS all_length_1d,
        coalesce(sum(size) OVER own, 0) AS exposures, coalesce(sum(size * g) OVER own, 0) / g AS exposures_1d,
        coalesce(sum(click) OVER own, 0) AS clicks, coalesce(sum(click * g) OVER own, 0) / g AS clicks_1d,
        coalesce(sum(expected) OVER own, 0) AS expected, coalesce(sum(expected * g) OVER own, 0) / g AS expected_1d,
        coalesce(sum(length) OVER own, 0) AS length, coalesce(sum(length * g) OVER own, 0) / g AS length_1d,
        max(t) OVER own AS last_t, max(click_t) OVER own AS click_t
    FROM (
        SELECT *, 0.0::DOUBLE AS click FROM lists
        UNION ALL BY NAME
        SELECT user_id, t, g, length, 0.0::DOUBLE AS size, 0.0::DOUBLE AS expected, 1.0::DOUBLE AS click, t AS click_t FROM clicks
    )
    WINDOW everything AS (ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
        own AS (PARTITION BY user_id ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
    QUALIFY impression_id IS NOT NULL
), begun AS (
    SELECT *, coalesce(t - lag(t) OVER (PARTITION BY user_id ORDER BY t) > 1800e6, true) AS begins FROM counted
), numbered AS (
    SELECT *, sum(begins::INT) OVER (PARTITION BY user_id ORDER BY t ROWS UNBOUNDED PRECEDING) AS session FROM begun
)
SELECT *, first_value(t) OVER session AS began_t, first_value(exposures) OVER session AS began_exposures,
    first_value(clicks) OVER session AS began_clicks,
    count(*) OVER (PARTITION BY user_id, session ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP) AS earlier
FROM numbered WINDOW session AS (PARTITION BY user_id, session ORDER BY t);

-- Entropy of the user's clicks: ln N − Σ n·ln n / N.
CREATE TEMP TABLE tastes AS
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY user_id, attribute, value ORDER BY t) AS n FROM valued_clicks
), summed AS (
    SELECT user_id, attribute, t, count(*) OVER past AS n, sum(spread(n) - spread(n - 1)) OVER past AS spread
    FROM numbered WINDOW past AS (PARTITION BY user_id, attribute ORDER BY t)
)
SELECT impression_id
    /* each attribute */
    , any_value(ln(n) - spread / n) FILTER (lookup.attribute = 'NAME') AS NAME
    /* end */
FROM (SELECT impression_id, user_id, t, unnest(['category', 'tags']) AS attribute FROM lists) AS lookup
ASOF LEFT JOIN summed
    ON lookup.user_id = summed.user_id AND lookup.attribute = summed.attribute AND lookup.t > summed.t
GROUP BY impression_id;

CREATE TEMP VIEW plain AS
SELECT i.impression_id, i.item_id,
    i.exposures_1d AS item_exposures_1d, i.clicks_1d AS item_clicks_1d,
    smoothed(l.all_clicks_1d, l.all_exposures_1d, 0.05) AS prior_1d, smoothed(l.all_clicks, l.all_exposures, 0.05) AS prior_all,
    smoothed(i.clicks_1d, i.exposures_1d, prior_1d) AS item_ctr_1d,
    over_expected(i.clicks_1d, i.expected_1d) AS item_coec_1d,
    smoothed(i.positions_1d, i.exposures_1d, 1) AS item_position_1d,
    i.exposures AS item_exposures_all, i.clicks AS item_clicks_all,
    smoothed(i.clicks, i.exposures, prior_all) AS item_ctr_all,
    over_expected(i.clicks, i.expected) AS item_coec_all,
    smoothed(i.positions, i.exposures, 1) AS item_position_all,
    item_ctr_1d / item_ctr_all AS item_trend,
    hours(instant(items.known_at), i.t) AS item_age_hours,
    hours(i.last_t, i.t) AS item_hours_since_shown, hours(i.click_t, i.t) AS item_hours_since_click,
    items.numbers[1].value AS item_length,
    l.exposures_1d AS user_exposures_1d, l.clicks_1d AS user_clicks_1d,
    smoothed(l.clicks_1d, l.exposures_1d, prior_1d) AS user_ctr_1d, over_expected(l.clicks_1d, l.expected_1d) AS user_coec_1d,
    l.exposures AS user_exposures_all, l.clicks AS user_clicks_all,
    smoothed(l.clicks, l.exposures, prior_all) AS user_ctr_all, over_expected(l.clicks, l.expected) AS user_coec_all,
    user_ctr_1d / user_ctr_all AS user_trend,
    hours(l.last_t, l.t) AS user_hours_since, hours(l.click_t, l.t) AS user_hours_since_click,
    usual(l.length_1d, l.clicks_1d, usual(l.all_length_1d, l.all_clicks_1d, 0)) AS user_length_usual_1d,
    usual(l.length, l.clicks, usual(l.all_length, l.all_clicks, 0)) AS user_length_usual_all,
    abs(item_length - user_length_usual_1d) AS user_length_gap_1d,
    abs(item_length - user_length_usual_all) AS user_length_gap_all,
    l.earlier AS session_lists, l.exposures - l.began_exposures AS session_exposures, l.clicks - l.began_clicks AS session_clicks,
    smoothed(session_clicks, session_exposures, 0.05) AS session_ctr, 60 * hours(l.began_t, l.t) AS session_minutes,
    (i.pair_exposures > 0)::INT AS pair_seen, i.pair_exposures AS pair_exposures, i.pair_clicks AS pair_clicks,
    i.pair_exposures - i.pair_clicks AS pair_skips,
    hours(i.pair_last_t, i.t) AS pair_hours_since, hours(i.pair_click_t, i.t) AS pair_hours_since_click,
    (i.t // 3600000000) % 24 AS hour, (i.t // 86400000000) % 7 + 1 AS weekday, l.size AS list_size,
    /* each attribute */
    tastes.NAME AS user_NAME_entropy, variety.NAME / l.size AS list_NAME_variety, NAME.shared / l.size AS list_NAME_shared,
    NAME.exposures_1d AS item_NAME_exposures_1d, NAME.exposures AS item_NAME_exposures_all,
    smoothed(NAME.clicks_1d, NAME.exposures_1d, prior_1d) AS item_NAME_ctr_1d,
    smoothed(NAME.clicks, NAME.exposures, prior_all) AS item_NAME_ctr_all,
    over_expected(NAME.clicks_1d, NAME.expected_1d) AS item_NAME_coec_1d,
    over_expected(NAME.clicks, NAME.expected) AS item_NAME_coec_all,
    item_NAME_ctr_1d / item_NAME_ctr_all AS item_NAME_trend,
    NAME.own_clicks_1d AS user_NAME_clicks_1d, NAME.own_clicks AS user_NAME_clicks_all,
    NAME.own_exposures_1d - NAME.own_clicks_1d AS user_NAME_skips_1d, NAME.own_exposures - NAME.own_clicks AS user_NAME_skips_all,
    smoothed(NAME.own_clicks_1d, NAME.own_exposures_1d, user_ctr_1d) AS user_NAME_ctr_1d,
    smoothed(NAME.own_clicks, NAME.own_exposures, user_ctr_all) AS user_NAME_ctr_all,
    user_NAME_ctr_1d / item_NAME_ctr_1d AS user_NAME_lift_1d, user_NAME_ctr_all / item_NAME_ctr_all AS user_NAME_lift_all,
    NAME.own_clicks_1d / (l.clicks_1d + 10) AS user_NAME_share_1d, NAME.own_clicks / (l.clicks + 10) AS user_NAME_share_all,
    hours(NAME.last_t, i.t) AS user_NAME_hours_since, hours(NAME.click_t, i.t) AS user_NAME_hours_since_click,
    NAME.known AS user_NAME_known,
    /* end */
FROM of_items AS i
JOIN of_lists AS l USING (impression_id)
JOIN tastes USING (impression_id)
JOIN variety USING (impression_id)
JOIN items USING (item_id)
/* each attribute */
JOIN of_values AS NAME ON NAME."row" = i."row" AND NAME.attribute = 'NAME'
/* end */;

CREATE TEMP TABLE alone AS SELECT * FROM plain;

CREATE TEMP VIEW features AS
WITH by_list AS (
    SELECT impression_id
    /* each compared */
    , avg(NAME) AS NAME_mean, stddev_pop(NAME) AS NAME_deviation, max(abs(NAME)) AS NAME_greatest
    /* end */
    FROM alone GROUP BY impression_id
)
SELECT alone.*
    /* each compared */
    , z(NAME, NAME_mean, NAME_deviation, NAME_greatest) AS NAME_z
    /* end */
FROM alone JOIN by_list USING (impression_id);
