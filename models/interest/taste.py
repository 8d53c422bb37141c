"""Taste: what share of the similarly worded items of a user's past was clicked, as evidence for a candidate.

A kernel regression (Nadaraya 1964, Watson 1964) with a learned metric over text vectors: past items count by
how near their text lies to the candidate's, in several views of it (what it is about, how it is written), and fade
with time. Shared attribute values make one more view. Attention has to learn to compare; this begins by
comparing, so a few hundred lists teach it something.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SKIPPED = "skipped"
"""The one action that speaks against an item."""
_PLACES = 48
_SHARPNESS = (2.0, 3.0, 4.0, 8.0)
"""One view of the texts each, to begin with."""
_ATTRIBUTE_SHARPNESS = 4.0
_PRIOR = 0.15
_PACE = 20.0
"""A handful of scalars must move further in a slice's few steps than the decoder's learning rate lets weights."""


class Taste(nn.Module):
    """Log of a smoothed share, over its prior, one number a candidate."""

    def __init__(self, actions: tuple[str, ...], text_width: int, attributes: int = 0) -> None:
        """`attributes`: buckets of attribute codes, 0 for a taste by text alone."""
        super().__init__()
        self.metric = nn.Linear(text_width, len(_SHARPNESS) * _PLACES, bias=False)
        nn.init.orthogonal_(self.metric.weight)
        # Random directions: the nearness of two bags of values is about the share of values they have in common.
        self.attribute = nn.Embedding(attributes, _PLACES, padding_idx=0) if attributes else None
        sharpness = (*_SHARPNESS, _ATTRIBUTE_SHARPNESS) if attributes else _SHARPNESS
        self.views = len(sharpness)
        self.shape = (self.views, _PLACES)
        self.sharpness = _paced(torch.tensor(sharpness).log())
        self.worth = _paced(torch.tensor([-4.0 if name == SKIPPED else 2.0 for name in actions]))
        self.fading = _paced(torch.tensor(-3.0))
        self.strength = _paced(torch.zeros(self.views))
        self.prior = _paced(torch.tensor(math.log(_PRIOR / (1 - _PRIOR))))
        self.weight = _paced(torch.full((self.views,), 0.4))

    def place(self, normal: Tensor, attribute: Tensor) -> Tensor:
        """Unit vectors [n, views, p], one a view, of normal text vectors [n, d] and attribute codes [n, k]."""
        places = self.metric(normal).unflatten(-1, (len(_SHARPNESS), _PLACES))
        if self.attribute is not None:
            bag = F.embedding_bag(attribute, self.attribute.weight, mode="sum", padding_idx=0)
            places = torch.cat([places, bag[:, None]], dim=1)
        return F.normalize(places, dim=-1)

    def forward(
        self,
        candidate: Tensor,
        past: Tensor,
        action: Tensor,
        allowed: Tensor,
        elapsed: Tensor,
        presence: Tensor | None = None,
    ) -> Tensor:
        """Logits [S, M] of candidates [S, M, views, p], given past items [S, J, views, p] and actions [S, J].

        `allowed` and `elapsed` [S, M, J], `presence` [S, J] as in `Visible`.
        """
        kept = (-F.softplus(_PACE * self.fading) * elapsed).masked_fill(~allowed, float("-inf"))
        clicked = (_PACE * self.worth).sigmoid()[action]
        counts = torch.stack([clicked, torch.ones_like(clicked)], dim=-1)
        if presence is not None:
            counts = counts * presence[..., None]
        prior = (_PACE * self.prior).sigmoid()
        logit = candidate.new_zeros(candidate.shape[:2])
        # With a 1 and a -1 behind them, the product of two unit vectors is their cosine - 1.
        candidate, past = F.pad(candidate, (0, 1), value=-1.0), F.pad(past, (0, 1), value=1.0)
        for view in range(self.views):
            sharp = (_PACE * self.sharpness[view]).exp() * candidate[:, :, view]
            mass = torch.baddbmm(kept, sharp, past[:, :, view].transpose(-1, -2)).exp_()
            shown, seen = (mass @ counts).unbind(-1)
            strength = F.softplus(_PACE * self.strength[view])
            share = (shown + strength * prior) / (seen + strength)
            logit = logit + _PACE * self.weight[view] * (share / prior).log()
        return logit


def _paced(value: Tensor) -> nn.Parameter:
    """A parameter kept as `value / _PACE`."""
    return nn.Parameter(value / _PACE)
