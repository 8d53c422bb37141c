"""Advance: the moment state at the end of a stretch of time, from the state at its start and what happened."""

from datetime import datetime

import polars as pl

from features.decay import advance as advance_counter
from features.facts import Facts
from features.moments import remembered, still_open
from features.project import Project
from features.sessions import current
from features.state import MomentState, SliceEvents, counters
from features.versions import latest


def advance(state: MomentState, events: SliceEvents, until: datetime, project: Project) -> MomentState:
    """The state at `until`, given the events known in [state.at, until)."""
    return advanced(Facts(state, events, project), until)


def advanced(facts: Facts, until: datetime) -> MomentState:
    """`advance`, where the events are laid out already."""
    state, events, project = facts.state, facts.events, facts.project
    answerable = pl.col("shown_at") >= until - project.labels.attribution
    return MomentState(
        at=until,
        totals={
            grain: advance_counter(totals, facts.of(grain), counters(project)[grain], state.at, until)
            for grain, totals in state.totals.items()
        },
        items=latest(facts.versions),
        open=still_open(state, events, until, project),
        shown=facts.answerable.filter(answerable),
        sessions=current(facts, until),
        moments=remembered(state, events, until, project),
    )
