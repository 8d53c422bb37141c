"""The gradient of a step: those of its passes, summed in their order, whichever workers they come from.

A sum's last bits depend on its order; they grow once weights are rounded to bf16 and Adam divides by small
numbers. So no worker adds up its own passes: each adds up a part of the parameters over all passes. That moves
as many bytes as an all-reduce where each worker has one pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .workers import Workers


class GradientSum:
    """Gradients [P] of some parameters, in one line behind each other with a count of the passes that had one."""

    def __init__(self, parameters: Sequence[nn.Parameter], workers: Workers) -> None:
        self._parameters, self._workers = parameters, workers
        self._part: Tensor | None = None

    def add(self, passes: int) -> None:
        """Add each worker's `grad` of a pass, if it is one of the first `passes` workers, and clear it."""
        if self._workers.size == 1:
            return  # autograd adds to `grad` in just this order
        for row in self._workers.exchange(self._line())[:passes]:
            self._part = row if self._part is None else self._part.add_(row)
        for parameter in self._parameters:
            parameter.grad = None

    def finish(self) -> None:
        """Put the sum into `grad` on every worker; none where no pass had one."""
        if self._part is None:
            return
        line = self._workers.assemble(self._part).flatten()
        sizes = [*(p.numel() for p in self._parameters), len(self._parameters)]
        *parts, counts = torch.split(line[: sum(sizes)], sizes)
        for parameter, part, count in zip(self._parameters, parts, counts.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if count else None

    def _line(self) -> Tensor:
        """[size, n]: the gradients and counts, cut into one row a worker."""
        own = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self._parameters]
        counts = own[0].new_tensor([float(p.grad is not None) for p in self._parameters])
        line = torch.cat([*(gradient.flatten() for gradient in own), counts])
        return F.pad(line, (0, -len(line) % self._workers.size)).view(self._workers.size, -1)
