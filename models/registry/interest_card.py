"""The card of an interest version: what it was fine-tuned on, how the fit went, and what it is not for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.markdown import table
from models.registry.ranker_card import written


def interest_card(
    name: str,
    slice: str,
    config: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    tags: Mapping[str, object],
) -> str:
    """The card of an interest model that was just fine-tuned on a slice.

    `name` is the registered model's, `config` its configuration (`InterestConfig.as_dict`), `history` what was
    measured along the fit (empty where there was nothing to learn from), `tags` what the version is tagged with
    (`tables`, `started_from`, `lists`, `texts`).
    """
    data = {
        "slice": slice,
        "goes on from": f"version {tags['started_from']}"
        if "started_from" in tags
        else "the encoder as it came",
        "learnt from": f"{tags.get('lists', 0):,} lists, {tags.get('texts', 0):,} distinct texts",
        "what people do": ", ".join(config["actions"]),
        "tables": str(tags.get("tables", "")),
    }
    sections = {
        "Data": table(["", ""], [[fact, value] for fact, value in data.items()]),
        "Fit": table(["", ""], [[fact, value] for fact, value in _fit(config, history)]),
        "Limits": _LIMITS,
        "Use": _USE.format(name=name),
    }
    top = (
        "Reads the texts of what a person took and passed over, and when, and says of each candidate's text how "
        f"likely they are to take it: `{config['encoder']}` under a causal decoder of {config['layers']} layers."
    )
    return written(f"{name}, fine-tuned up to {slice}", top, sections)


def _fit(config: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    yield "tuned", f"`{config['tune']}`"
    beside = [*(name for name in ("attributes", "ids") if config[name]), *config["numbers"]]
    yield "read beside the text", ", ".join(beside) or "nothing"
    if not history:
        yield "loss", "nothing to learn from"
        return
    first, last = history[0], history[-1]
    yield "steps", f"{last['step']:g} in {last['epoch']:g} epochs"
    yield "loss", f"{first['loss']:.4f} at first, {last['loss']:.4f} at last"
    if "held_out_loss" in last:
        error = last["held_out_calibration_error"]
        yield "held out", f"loss {last['held_out_loss']:.4f}, calibration error {error:.4f}"


_LIMITS = """\
- It knows what people did next after what they were shown; what was never shown to anybody, by its text alone.
- Its probabilities are those of lists like those it was fitted on, and it must not score the slice it was fitted on.
- A history is read as far back as its window; a person without one is read as a newcomer."""

_USE = """\
```python
interest = mlflow.pyfunc.load_model("models:/{name}@challenger")
interest.predict(frame)  # a list of probabilities a row, one a candidate
```

`frame` (pandas) has a row a request: `history`, a list of `{{"text", "action", "at"}}` (epoch seconds), and
`candidates`, a list of texts; the version carries example rows."""
