"""What the journal's lines become in the state."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from features.behaviour import advance
from features.config.slices import microseconds
from features.events.pseudonyms import Forgotten, Pseudonyms, mark
from features.live.live_moments import rows_of
from features.schemas import ItemVectors
from features.sources.raw import as_logged
from features.state import start
from pipelines.service.event_intake import Known, Stamped
from pipelines.service.resident import Resident, decode, row_of
from pipelines.service.wire import InteractionEvent, RankingEvent

AT = "2026-01-05T00:00:00Z"
LINES = "\n".join(
    json.dumps(event | {"user": user, "timestamp": AT})
    for user in ("anna", "ben")
    for event in (
        {"event": "ranking", "id": f"i-{user}", "items": [{"id": "a"}]},
        {"event": "interaction", "id": f"c-{user}", "item": "a", "type": "click"},
    )
).encode()


def test_events_of_a_forgotten_user_stay_out_after_a_restart(toy: SimpleNamespace) -> None:
    forgotten = Forgotten({mark("anna", "salt"): "salt"})

    events = decode(LINES, toy.project().reader, as_logged, forgotten)

    assert events.impressions["user_id"].to_list() == ["ben"]
    assert events.interactions["user_id"].to_list() == ["ben"]


def test_users_are_pseudonyms_as_in_the_tables(toy: SimpleNamespace) -> None:
    names = Pseudonyms("a key of sixteen or more characters")

    events = decode(LINES, toy.project().reader, names.hide, Forgotten({}))

    assert events.impressions["user_id"].to_list() == [names.of("anna"), names.of("ben")]


def test_an_accepted_event_is_applied_as_its_line_is_read(toy: SimpleNamespace) -> None:
    names = Pseudonyms("a key of sixteen or more characters")
    at, happened = 1_767_571_200_000_001, 1_767_571_200_000_000
    ranking = {
        "event": "ranking",
        "id": "r",
        "user": "ben",
        "session": "s",
        "items": [{"id": "a"}, {"id": "b"}],
    }
    rating = {"event": "interaction", "user": "ben", "item": "a", "type": "rating", "value": 4}
    stamped = [
        Stamped(RankingEvent.model_validate(ranking), "r", at, at),
        Stamped(InteractionEvent.model_validate(rating), "c", at, happened),
    ]
    lines = "\n".join(one.line() for one in stamped).encode()

    applied = [row_of(one, SimpleNamespace(stored=names.of)) for one in stamped]  # type: ignore[arg-type]

    assert applied == rows_of(decode(lines, toy.project().reader, names.hide, Forgotten({})))


def test_a_deleted_user_is_left_out_of_memory_and_of_a_restart(toy: SimpleNamespace, tmp_path: Path) -> None:
    project, marks = toy.project(), dict[str, str]()
    privacy: Any = SimpleNamespace(
        marks=lambda: dict(marks), stored=str, hide=as_logged, pseudonyms=None,
        mark_forgotten=lambda user, _: marks.update({mark(user, "salt"): "salt"}),
    )  # fmt: skip
    events, later = decode(LINES, project.reader, as_logged, Forgotten({})), datetime(2026, 1, 6, tzinfo=UTC)

    def started() -> Resident:
        state = advance(start(project.slices.start, project.behaviour), events, later)
        return Resident(state, ItemVectors.create_empty(), project, privacy, Known(), tmp_path)

    resident = started()
    resident.forget("anna")
    click = {"event": "interaction", "user": "anna", "item": "a", "type": "click"}
    waiting = Stamped(InteractionEvent.model_validate(click), "c", microseconds(later), microseconds(later))
    resident.apply([waiting])

    for one in (resident, started()):
        known = {
            user: one.live.histories.past(user, microseconds(later) + 1)[0].items for user in ("anna", "ben")
        }
        assert known == {"anna": [], "ben": ["a"]}
        assert (one.is_forgotten("anna"), one.is_forgotten("ben")) == (True, False)
