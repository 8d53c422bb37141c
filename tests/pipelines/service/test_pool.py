"""The items that a request without candidates ranks."""

from types import SimpleNamespace

from features.config.slices import microseconds
from features.live import LiveMoments
from features.schemas import ItemVectors
from features.state import SliceEvents, start
from pipelines.service.pool import Pool


def test_a_request_for_a_later_instant_does_not_stop_the_pool(toy: SimpleNamespace) -> None:
    project, vectors = toy.project(), ItemVectors.create_empty()
    live = LiveMoments(start(project.slices.start, project.behaviour), project.slices, vectors)
    pool, now = Pool(live, 10), microseconds(toy.at(2))
    past, _ = live.histories.past("u", now)

    assert pool.draw(past, microseconds(toy.at(100)), (), None) == []
    new = toy.items(toy.item("new", toy.at(1)))
    live.update(SliceEvents(new, toy.impressions(), toy.interactions()), vectors)

    assert pool.draw(past, now, (), None) == ["new"]
