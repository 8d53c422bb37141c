-- The columns of `feature_columns.py` in DuckDB, one statement a step, on views `candidates`, `interactions`, `items`, `values`.
-- `t` counts microseconds since the first slice; a frame leaves out its row's own instant: strictly before.
-- What stands between `each` and `end` is written once for each attribute, or each column that is compared within its list.
-- A decayed sum is a plain sum of 2^(t/h) over the past, divided by 2^(t/h) of the present (h: one day).

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

-- A click is told where the user last saw the item, inside half an hour.
CREATE TEMP TABLE clicks AS
WITH done AS (
    SELECT user_id, item_id, instant(interactions.known_at) AS t, numbers[1].value AS length
    FROM interactions JOIN items USING (item_id)
)
SELECT done.user_id, done.item_id, done.length, done.t, pow(2, done.t / 86400e6) AS g,
    CASE WHEN done.t - raw.t <= 1800e6 THEN raw.position END AS position
FROM done ASOF LEFT JOIN raw ON done.user_id = raw.user_id AND done.item_id = raw.item_id AND done.t >= raw.t;

CREATE TEMP TABLE shown AS
SELECT * EXCLUDE (shows, takes), pow(2, t / 86400e6) AS g,
    smoothed(coalesce(sum(takes) OVER before, 0), coalesce(sum(shows) OVER before, 0), 0.05) AS expected
FROM (
    SELECT *, 1.0::DOUBLE AS shows, 0.0::DOUBLE AS takes FROM raw
    UNION ALL BY NAME
    SELECT position, t, 0.0::DOUBLE AS shows, 1.0::DOUBLE AS takes FROM clicks WHERE position IS NOT NULL
)
WINDOW before AS (PARTITION BY position ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
QUALIFY "row" IS NOT NULL;

CREATE TEMP TABLE of_items AS
SELECT "row", impression_id, item_id, t, g,
    coalesce(sum(1 - taken) OVER item, 0) AS shows, coalesce(sum((1 - taken) * g) OVER item, 0) / g AS shows_1d,
    coalesce(sum(taken) OVER item, 0) AS takes, coalesce(sum(taken * g) OVER item, 0) / g AS takes_1d,
    coalesce(sum(expected) OVER item, 0) AS expected, coalesce(sum(expected * g) OVER item, 0) / g AS expected_1d,
    coalesce(sum(position) OVER item, 0) AS positions, coalesce(sum(position * g) OVER item, 0) / g AS positions_1d,
    max(t) OVER item AS last_t, max(taken_t) OVER item AS taken_t,
    coalesce(sum(1 - taken) OVER pair, 0) AS pair_shows, coalesce(sum(taken) OVER pair, 0) AS pair_takes,
    max(t) OVER pair AS pair_last_t, max(taken_t) OVER pair AS pair_taken_t
FROM (
    SELECT *, 0.0::DOUBLE AS taken FROM shown
    UNION ALL BY NAME
    SELECT user_id, item_id, t, g, 1.0::DOUBLE AS taken, 0 AS position, 0.0::DOUBLE AS expected, t AS taken_t FROM clicks
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
        coalesce(sum(1 - taken) OVER every, 0) AS shows, coalesce(sum((1 - taken) * g) OVER every, 0) / g AS shows_1d,
        coalesce(sum(taken) OVER every, 0) AS takes, coalesce(sum(taken * g) OVER every, 0) / g AS takes_1d,
        coalesce(sum(expected) OVER every, 0) AS expected, coalesce(sum(expected * g) OVER every, 0) / g AS expected_1d,
        coalesce(sum(1 - taken) OVER own, 0) AS own_shows, coalesce(sum((1 - taken) * g) OVER own, 0) / g AS own_shows_1d,
        coalesce(sum(taken) OVER own, 0) AS own_takes, coalesce(sum(taken * g) OVER own, 0) / g AS own_takes_1d,
        max(t) OVER own AS last_t, max(taken_t) OVER own AS taken_t
    FROM (
        SELECT *, 0.0::DOUBLE AS taken FROM valued
        UNION ALL BY NAME
        SELECT *, 1.0::DOUBLE AS taken, 0.0::DOUBLE AS expected, t AS taken_t FROM valued_clicks
    )
    WINDOW every AS (PARTITION BY attribute, value ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
        own AS (PARTITION BY user_id, attribute, value ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
    QUALIFY "row" IS NOT NULL
)
SELECT "row", attribute, sum(shared) AS shared, sum(shows) AS shows, sum(shows_1d) AS shows_1d, sum(takes) AS takes, sum(takes_1d) AS takes_1d,
    sum(expected) AS expected, sum(expected_1d) AS expected_1d, sum(own_shows) AS own_shows,
    sum(own_shows_1d) AS own_shows_1d, sum(own_takes) AS own_takes, sum(own_takes_1d) AS own_takes_1d,
    max(last_t) AS last_t, max(taken_t) AS taken_t, count(*) FILTER (own_takes > 0) / count(*) AS known
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
        coalesce(sum(size) OVER everything, 0) AS all_shows, coalesce(sum(size * g) OVER everything, 0) / g AS all_shows_1d,
        coalesce(sum(taken) OVER everything, 0) AS all_takes, coalesce(sum(taken * g) OVER everything, 0) / g AS all_takes_1d,
        coalesce(sum(length) OVER everything, 0) AS all_length, coalesce(sum(length * g) OVER everything, 0) / g AS all_length_1d,
        coalesce(sum(size) OVER own, 0) AS shows, coalesce(sum(size * g) OVER own, 0) / g AS shows_1d,
        coalesce(sum(taken) OVER own, 0) AS takes, coalesce(sum(taken * g) OVER own, 0) / g AS takes_1d,
        coalesce(sum(expected) OVER own, 0) AS expected, coalesce(sum(expected * g) OVER own, 0) / g AS expected_1d,
        coalesce(sum(length) OVER own, 0) AS length, coalesce(sum(length * g) OVER own, 0) / g AS length_1d,
        max(t) OVER own AS last_t, max(taken_t) OVER own AS taken_t
    FROM (
        SELECT *, 0.0::DOUBLE AS taken FROM lists
        UNION ALL BY NAME
        SELECT user_id, t, g, length, 0.0::DOUBLE AS size, 0.0::DOUBLE AS expected, 1.0::DOUBLE AS taken, t AS taken_t FROM clicks
    )
    WINDOW everything AS (ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP),
        own AS (PARTITION BY user_id ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
    QUALIFY impression_id IS NOT NULL
), begun AS (
    SELECT *, coalesce(t - lag(t) OVER (PARTITION BY user_id ORDER BY t) > 1800e6, true) AS begins FROM counted
), numbered AS (
    SELECT *, sum(begins::INT) OVER (PARTITION BY user_id ORDER BY t ROWS UNBOUNDED PRECEDING) AS session FROM begun
)
SELECT *, first_value(t) OVER session AS began_t, first_value(shows) OVER session AS began_shows,
    first_value(takes) OVER session AS began_takes,
    count(*) OVER (PARTITION BY user_id, session ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP) AS earlier
FROM numbered WINDOW session AS (PARTITION BY user_id, session ORDER BY t);

-- Entropy of the user's takes: ln N − Σ n·ln n / N.
CREATE TEMP TABLE tastes AS
WITH taken AS (
    SELECT *, row_number() OVER (PARTITION BY user_id, attribute, value ORDER BY t) AS n FROM valued_clicks
), summed AS (
    SELECT user_id, attribute, t, count(*) OVER past AS n, sum(spread(n) - spread(n - 1)) OVER past AS spread
    FROM taken WINDOW past AS (PARTITION BY user_id, attribute ORDER BY t)
)
SELECT impression_id
    /* each attribute */
    , any_value(ln(n) - spread / n) FILTER (asked.attribute = 'NAME') AS NAME
    /* end */
FROM (SELECT impression_id, user_id, t, unnest(['category', 'tags']) AS attribute FROM lists) AS asked
ASOF LEFT JOIN summed
    ON asked.user_id = summed.user_id AND asked.attribute = summed.attribute AND asked.t > summed.t
GROUP BY impression_id;

CREATE TEMP VIEW plain AS
SELECT i.impression_id, i.item_id,
    i.shows_1d AS item_exposures_1d, i.takes_1d AS item_clicks_1d,
    smoothed(l.all_takes_1d, l.all_shows_1d, 0.05) AS prior_1d, smoothed(l.all_takes, l.all_shows, 0.05) AS prior_all,
    smoothed(i.takes_1d, i.shows_1d, prior_1d) AS item_ctr_1d,
    over_expected(i.takes_1d, i.expected_1d) AS item_coec_1d,
    smoothed(i.positions_1d, i.shows_1d, 1) AS item_position_1d,
    i.shows AS item_exposures_all, i.takes AS item_clicks_all,
    smoothed(i.takes, i.shows, prior_all) AS item_ctr_all,
    over_expected(i.takes, i.expected) AS item_coec_all,
    smoothed(i.positions, i.shows, 1) AS item_position_all,
    item_ctr_1d / item_ctr_all AS item_trend,
    hours(instant(items.known_at), i.t) AS item_age_hours,
    hours(i.last_t, i.t) AS item_hours_since_shown, hours(i.taken_t, i.t) AS item_hours_since_click,
    items.numbers[1].value AS item_length,
    l.shows_1d AS user_exposures_1d, l.takes_1d AS user_clicks_1d,
    smoothed(l.takes_1d, l.shows_1d, prior_1d) AS user_ctr_1d, over_expected(l.takes_1d, l.expected_1d) AS user_coec_1d,
    l.shows AS user_exposures_all, l.takes AS user_clicks_all,
    smoothed(l.takes, l.shows, prior_all) AS user_ctr_all, over_expected(l.takes, l.expected) AS user_coec_all,
    user_ctr_1d / user_ctr_all AS user_trend,
    hours(l.last_t, l.t) AS user_hours_since, hours(l.taken_t, l.t) AS user_hours_since_click,
    usual(l.length_1d, l.takes_1d, usual(l.all_length_1d, l.all_takes_1d, 0)) AS user_length_usual_1d,
    usual(l.length, l.takes, usual(l.all_length, l.all_takes, 0)) AS user_length_usual_all,
    abs(item_length - user_length_usual_1d) AS user_length_gap_1d,
    abs(item_length - user_length_usual_all) AS user_length_gap_all,
    l.earlier AS session_lists, l.shows - l.began_shows AS session_exposures, l.takes - l.began_takes AS session_clicks,
    smoothed(session_clicks, session_exposures, 0.05) AS session_ctr, 60 * hours(l.began_t, l.t) AS session_minutes,
    (i.pair_shows > 0)::INT AS pair_seen, i.pair_shows AS pair_exposures, i.pair_takes AS pair_clicks,
    i.pair_shows - i.pair_takes AS pair_passed,
    hours(i.pair_last_t, i.t) AS pair_hours_since, hours(i.pair_taken_t, i.t) AS pair_hours_since_click,
    (i.t // 3600000000) % 24 AS hour, (i.t // 86400000000) % 7 + 1 AS weekday, l.size AS list_size,
    /* each attribute */
    tastes.NAME AS user_NAME_entropy, variety.NAME / l.size AS list_NAME_variety, NAME.shared / l.size AS list_NAME_shared,
    NAME.shows_1d AS item_NAME_exposures_1d, NAME.shows AS item_NAME_exposures_all,
    smoothed(NAME.takes_1d, NAME.shows_1d, prior_1d) AS item_NAME_ctr_1d,
    smoothed(NAME.takes, NAME.shows, prior_all) AS item_NAME_ctr_all,
    over_expected(NAME.takes_1d, NAME.expected_1d) AS item_NAME_coec_1d,
    over_expected(NAME.takes, NAME.expected) AS item_NAME_coec_all,
    item_NAME_ctr_1d / item_NAME_ctr_all AS item_NAME_trend,
    NAME.own_takes_1d AS user_NAME_clicks_1d, NAME.own_takes AS user_NAME_clicks_all,
    NAME.own_shows_1d - NAME.own_takes_1d AS user_NAME_passed_1d, NAME.own_shows - NAME.own_takes AS user_NAME_passed_all,
    smoothed(NAME.own_takes_1d, NAME.own_shows_1d, user_ctr_1d) AS user_NAME_ctr_1d,
    smoothed(NAME.own_takes, NAME.own_shows, user_ctr_all) AS user_NAME_ctr_all,
    user_NAME_ctr_1d / item_NAME_ctr_1d AS user_NAME_lift_1d, user_NAME_ctr_all / item_NAME_ctr_all AS user_NAME_lift_all,
    NAME.own_takes_1d / (l.takes_1d + 10) AS user_NAME_share_1d, NAME.own_takes / (l.takes + 10) AS user_NAME_share_all,
    hours(NAME.last_t, i.t) AS user_NAME_hours_since, hours(NAME.taken_t, i.t) AS user_NAME_hours_since_click,
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
WITH told AS (
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
FROM alone JOIN told USING (impression_id);
