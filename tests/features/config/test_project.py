from datetime import timedelta
from pathlib import Path

import pytest

from features.config.project import Project, load
from features.errors import ProjectError

PROJECTS = Path(__file__).parents[3] / "projects"
MINIMAL = """
name = "mine"
[source]
format = "metarank"
path = "events.jsonl"
[slices]
start = 2026-01-05T00:00:00Z
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


def error_of(file: Path, *overrides: str) -> str:
    with pytest.raises(ProjectError) as caught:
        load(file, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", ["newsroom", "ranklens"])
def test_bundled_projects_are_valid(name: str) -> None:
    assert load(PROJECTS / f"{name}.toml").name == name


def test_a_project_knows_its_folder_and_is_frozen(file: Path) -> None:
    project = load(file)

    assert project.folder == file.parent
    with pytest.raises(ValueError, match="frozen"):
        project.seed = 2


@pytest.mark.parametrize(
    ("override", "section", "value"),
    [
        ("seed=7", None, 7),
        ("ranker.num_leaves=15", "ranker", 15),
        ("ranker.position_bias='none'", "ranker", "none"),
        ('items.numeric=["length", "rating"]', "items", ("length", "rating")),
        ('source.path="other.jsonl"', "source", "other.jsonl"),
        ('source.path=["a", "b"]', "source", ("a", "b")),
        ('labels.attribution="1h"', "labels", timedelta(hours=1)),
        ("labels.gains={like = 1, share = 3.5}", "labels", {"like": 1.0, "share": 3.5}),
        ("labels.gains.like=2", "labels", {"like": 2.0}),
    ],
)
def test_set_reads_toml_values(file: Path, override: str, section: str | None, value: object) -> None:
    project = load(file, [override])

    config = project.model_dump()[section] if section else project.model_dump()
    assert value in config.values()


def test_the_last_override_wins(file: Path) -> None:
    assert load(file, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "has no value: write key.path=value"),
        ("source.path=other.jsonl", "text needs quotes, for example 'source.path=\"other.jsonl\"'"),
        ("seed=", "is not a TOML value"),
        ("name.part=1", "'name' is a value, not a section"),
        ("ranker.num_leaves=1", "ranker.num_leaves: Input should be greater than or equal to 2 (found '1')"),
        ("ranker.num_leaves=true", "ranker.num_leaves"),
        ('name="Mine!"', "name: String should match pattern"),
        ("labels.gains={}", "labels.gains"),
        ('labels.attribution="soon"', "labels.attribution: 'soon' is not a duration"),
        ("labels.attribution=30", "write a whole number and s, m, h or d"),
        ("labels.gains={click = nan}", "labels.gains.click: Input should be a finite number"),
        ("labels.gains={click = 1e400}", "labels.gains.click: Input should be a finite number"),
        ("labels.gains={click = -1}", "labels.gains.click: Input should be greater than or equal to 0"),
        ("interest.decoder_rate=inf", "interest.decoder_rate: Input should be a finite number"),
        ('slices.every="45m"', 'slices: slices.every is "45m", which cron cannot repeat: choose one of'),
        (
            "slices.end=2026-01-06T12:00:00Z",
            "slices: slices.end is 2026-01-06T12:00:00+00:00, in the middle of a slice",
        ),
        ("interest.heads=5", "such as 100"),
        (f'name="{"x" * 65}"', "name: String should have at most 64 characters"),
        ('slices.start="later"', "slices.start: 'later' is not an instant"),
        ('source.path=""', "source.path is missing"),
        ('source.format="tables"', "needs a [source.tables] section"),
        ('source.format="csv"', "write metarank, mind, tables, newsroom, or module:object"),
        (
            'source.format="nowhere:read"',
            "source.format: cannot be imported: ModuleNotFoundError: No module named",
        ),
        ('features.families=["json:weather"]', "features.families.0: cannot be imported: AttributeError"),
        ('evaluation.metrics=["map"]', "evaluation.metrics.0: write module:object"),
        ('promotion.metric="map"', "promotion.metric is 'map': write ndcg@5, ndcg@10, mrr, auc, or name"),
        ("interest.width=90", "interest.width is 90, which is not divisible by 4 heads"),
        ('interest.tune="top:0"', "interest.tune"),
        ('promotion.guard={"new_user" = 0.1}', "'new_user' is not a segment and would never block"),
        ('promotion.guard={"colour: red" = 0.1}', "'colour: red' is not a segment"),
        ('promotion.guard={"list of 6–11" = 0.1}', "'list of 6–11' is not a segment"),
    ],
)
def test_an_invalid_value_is_reported_with_what_was_expected(file: Path, override: str, message: str) -> None:
    assert message in error_of(file, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sead=1", "sead: unknown key; did you mean 'seed'?"),
        ("ranker.num_leafs=3", "ranker.num_leafs: unknown key; did you mean 'num_leaves'?"),
        ('source.newsroom.user="x"', "source.newsroom.user: unknown key; did you mean 'users'?"),
        ('source.tables={shape = "lists", clickd = "x"}', "unknown key; did you mean 'clicked'?"),
        ("zzz=1", "zzz: unknown key; known keys: checks, context, evaluation, experiment, exploration"),
        (
            "promotion.zzz=1",
            "known keys: calibration, confidence, guard, margin, metric, min_gain, resamples",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(file: Path, override: str, message: str) -> None:
    assert message in error_of(file, override)


def test_every_kind_of_segment_can_be_guarded(file: Path) -> None:
    guard = (
        'promotion.guard={"new_items" = 0.1, "colour: red" = 0.1, "list of 51 or more" = 0, "06–12 h" = 0.1}'
    )
    assert len(load(file, ['items.categorical=["colour"]', guard]).promotion.guard) == 4


def test_all_errors_are_reported_at_once(file: Path) -> None:
    message = error_of(file, "sead=1", "ranker.num_leaves=0")

    assert "sead" in message
    assert "ranker.num_leaves" in message


@pytest.mark.parametrize(
    ("half_lives", "message"),
    [
        ('["1h", "1d"]', 'end with "none"'),
        ("[]", 'end with "none"'),
        ('["none", "none"]', "'none' is not a duration"),
        ('["1d", "1h", "none"]', "go from short to long"),
        ('["60m", "1h", "none"]', "go from short to long"),
        ('["0s", "none"]', "go from short to long"),
        ('["1w", "none"]', "'1w' is not a duration"),
    ],
)
def test_invalid_half_lives(file: Path, half_lives: str, message: str) -> None:
    assert message in error_of(file, f"features.half_lives={half_lives}")


def test_half_lives_in_seconds(file: Path) -> None:
    features = load(file, ['features.half_lives=["2h", "none"]']).features

    assert [features.seconds(name) for name in features.half_lives] == [7200.0, None]


def test_no_decay_may_be_the_only_half_life(file: Path) -> None:
    assert load(file, ['features.half_lives=["none"]']).features.half_lives == ("none",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name = ", "is not valid TOML"),
        ("name = 'mine'", "source: Field required"),
        ("\xff", "is not valid TOML"),
    ],
)
def test_a_broken_file(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content.encode("latin-1"))

    message = error_of(path)

    assert expected in message
    assert str(path) in message


def test_no_file(tmp_path: Path) -> None:
    assert "no project file at" in error_of(tmp_path / "none.toml")
    assert "projects/newsroom.toml" in error_of(tmp_path)


def test_defaults_are_complete() -> None:
    project = Project.model_validate(
        {"name": "x", "source": {"format": "newsroom"}, "slices": {"start": "2026-01-05T00:00:00Z"}}
    )

    assert project.labels.gains == {"click": 1.0}
    assert project.slices.every == timedelta(days=1)


def test_trainers_must_divide_the_passes_of_a_step(file: Path) -> None:
    assert load(file, ["scale.trainers=2", "interest.accumulate=4"]).scale.trainers == 2
    message = error_of(file, "scale.trainers=2", "interest.accumulate=3")
    assert "interest.accumulate to a multiple of 2, such as 4" in message
