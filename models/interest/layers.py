"""An encoder's layers, found by the model's structure, so that a pass can start at any of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


class LayerStack:
    """The layers of a model, which computes their masks and positions itself; none if it repeats a single layer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.layers: list[nn.Module] = find_layers(model)

    def below(self, number: int, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [n, L, d] that enter layer `number`, or leave the last one, for token ids [n, L]."""
        entered: list[Tensor] = []

        def record(hidden: Tensor) -> Tensor:
            entered.append(hidden)
            return hidden

        with _hooked(self.layers[number : number + 1], record):
            whole = self._model(input_ids=ids, attention_mask=mask)
        states: Tensor = entered[0] if entered else whole.last_hidden_state
        return states

    def above(self, number: int, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [n, L, d] that leave the last layer, from those that enter layer `number`."""
        skipped = self.layers[:number]
        rest = self._rest if skipped else None

        def skip(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor | tuple[Tensor | None, ...]:
            return hidden_states if rest is None else (hidden_states, *rest)

        for layer in skipped:
            layer.forward = skip
        try:
            with _hooked(self.layers[number : number + 1], lambda _: hidden):
                whole = self._model(input_ids=torch.zeros_like(mask), attention_mask=mask)
        finally:
            for layer in skipped:
                del layer.forward
        states: Tensor = whole.last_hidden_state
        return states

    @cached_property
    def _rest(self) -> tuple[None, ...] | None:
        """Placeholders for a layer's outputs after the hidden states; None if it does not return a tuple."""
        outputs: list[Any] = []
        hook = self.layers[0].register_forward_hook(lambda _, __, output: outputs.append(output))
        with hook, torch.no_grad():
            one = torch.ones(1, 1, dtype=torch.long, device=next(self._model.parameters()).device)
            self._model(input_ids=one, attention_mask=one)
        return (None,) * (len(outputs[0]) - 1) if isinstance(outputs[0], tuple) else None


def find_layers(model: Any) -> list[nn.Module]:
    """The first list of modules of one class with the configuration's number of layers; empty if there is none."""
    count = getattr(model.config, "num_hidden_layers", 0)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and len({type(m) for m in module}) == 1:
            return list(module)
    return []


@contextmanager
def _hooked(layers: Sequence[nn.Module], change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the context, pass the hidden states that enter some layers through `change`."""

    def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        if given:
            return (change(given[0]), *given[1:]), named
        return given, named | {"hidden_states": change(named["hidden_states"])}

    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
