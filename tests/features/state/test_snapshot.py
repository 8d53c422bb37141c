from types import SimpleNamespace

import polars as pl

from features.behaviour import advance
from features.state import counters, restore, start


def test_entries_that_a_slice_does_not_touch_keep_their_bytes(toy: SimpleNamespace) -> None:
    project, world = toy.project(), toy.busy()
    state = advance(
        start(project.slices.start, project.behaviour),
        toy.between(world, toy.START, toy.at(300)),
        toy.at(300),
    )
    later = advance(state, toy.between(world, toy.at(300), toy.at(330)), toy.at(330))

    for grain, counter in counters(project.behaviour).items():
        untouched = later.stored(grain).filter(pl.col("last_at") < toy.at(300))
        before = state.stored(grain).join(
            untouched.select(counter.keys), on=counter.keys, how="semi", maintain_order="left"
        )
        assert untouched.equals(before), grain
        assert untouched.height > 0 or grain in ("everything", "position", "attribute"), grain


def test_rows_are_sorted_by_key_whatever_the_order_of_first_appearance(toy: SimpleNamespace) -> None:
    project, world = toy.project(), toy.busy()
    state = advance(
        start(project.slices.start, project.behaviour), toy.between(world, toy.START, toy.END), toy.END
    )

    assert (
        state.stored("user_item")
        .select("user_id", "item_id")
        .equals(state.stored("user_item").select("user_id", "item_id").sort("user_id", "item_id"))
    )
    tags = state.stored("user_attribute").filter(attribute="tags").select("user_id", "value")
    assert tags.equals(tags.sort("user_id", "value"))


def test_counts_are_as_of_the_state_and_stored_numbers_as_of_the_last_update(toy: SimpleNamespace) -> None:
    project, world = toy.project(), toy.busy(lists=30)
    state = advance(
        start(project.slices.start, project.behaviour), toy.between(world, toy.START, toy.END), toy.END
    )

    stored, now = state.stored("item"), state.counts("item")

    left = 0.5 ** ((pl.lit(toy.END) - pl.col("last_at")).dt.total_microseconds() / 3.6e9)
    decayed = stored.select((pl.col("exposures_1h") * left).alias("x"))["x"]
    assert (decayed - now["exposures_1h"]).abs().max() < 1e-12
    assert stored["exposures_all"].equals(now["exposures_all"])


def test_a_restored_state_advances_as_the_one_in_memory(toy: SimpleNamespace) -> None:
    project, world = toy.project(context={"categorical": ("surface",)}), toy.busy()
    state = advance(
        start(project.slices.start, project.behaviour),
        toy.between(world, toy.START, toy.at(300)),
        toy.at(300),
    )
    later = toy.between(world, toy.at(300), toy.END)

    restored = advance(restore(state.at, state.tables(), project.behaviour), later, toy.END)

    for name, table in advance(state, later, toy.END).tables().items():
        assert restored.tables()[name].equals(table), name
