"""The card of an interest version: training data, fit, limits and use."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.markdown import table
from models.registry.ranker_card import card


def interest_card(
    name: str,
    slice: str,
    config: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    tags: Mapping[str, object],
) -> str:
    """The card of an interest model that was fine-tuned on a slice.

    `name`: the registered model's. `config`: `InterestConfig.as_dict`. `history`: metrics during the fit, empty without
    data. `tags`: the version's tags (`tables`, `started_from`, `lists`, `texts`).
    """
    data = {
        "slice": slice,
        "started from": f"version {tags['started_from']}"
        if "started_from" in tags
        else "the pretrained encoder",
        "fitted on": f"{tags.get('lists', 0):,} impressions, {tags.get('texts', 0):,} distinct texts",
        "actions": ", ".join(config["actions"]),
        "tables": str(tags.get("tables", "")),
    }
    sections = {
        "Data": table(["", ""], [[key, value] for key, value in data.items()]),
        "Fit": table(["", ""], [[key, value] for key, value in _fit(config, history)]),
        "Limits": _LIMITS,
        "Use": _USE.format(name=name),
    }
    summary = (
        "Reads the texts of the items that a user clicked and skipped, with their times, and predicts the click "
        f"probability of each candidate: `{config['encoder']}` under a causal decoder of {config['layers']} layers."
    )
    return card(f"{name}, fine-tuned up to {slice}", summary, sections)


def _fit(config: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    yield "tuned", f"`{config['tune']}`"
    other_inputs = [*(name for name in ("attributes", "ids") if config[name]), *config["numbers"]]
    yield "other inputs", ", ".join(other_inputs) or "none"
    if not history:
        yield "loss", "no data to learn from"
        return
    first, last = history[0], history[-1]
    yield "steps", f"{last['step']:g} in {last['epoch']:g} epochs"
    yield "loss", f"{first['loss']:.4f} at the start, {last['loss']:.4f} at the end"
    if "held_out_loss" in last:
        error = last["held_out_calibration_error"]
        yield "held out", f"loss {last['held_out_loss']:.4f}, calibration error {error:.4f}"


_LIMITS = """\
- It is fitted on items that were shown: about an item that was never shown it knows only the text.
- Its probabilities hold for impressions like those it was fitted on, and it must not score its training slice.
- It reads a history up to the length of its window; a user without one is scored as a cold-start user."""

_USE = """\
```python
interest = mlflow.pyfunc.load_model("models:/{name}@challenger")
interest.predict(frame)  # per row a list of probabilities, one per candidate
```

`frame` (pandas) has one row per request: `history`, a list of `{{"text", "action", "at"}}` (epoch seconds), and
`candidates`, a list of texts; the version includes example rows."""
