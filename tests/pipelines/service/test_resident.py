"""What the journal's lines become in the state."""

import json
from types import SimpleNamespace

from features.events.pseudonyms import Forgotten, Pseudonyms, mark
from features.sources.raw import as_logged
from pipelines.service.resident import decode

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
