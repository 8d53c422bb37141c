"""Taste: clicks on similar items in a user's history as evidence for a candidate, moments with them against it.

A kernel regression (Nadaraya 1964, Watson 1964): past items are weighted by the cosine of learned projections of
their text vectors and the candidate's, one projection per view, and decay with time. One more view compares attribute
values. A fresh taste is the log of the share of clicks; a fit then weights clicks and moments apart, because a share is
the same for one click and for many. Attention has to learn comparing; taste compares from the
start, so a few hundred impressions suffice.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SKIPPED = "skipped"
"""The only action that counts against an item."""
_PLACES = 48
_SHARPNESS = (2.0, 3.0, 4.0, 8.0)
"""Initial sharpness of each view of the texts."""
_ATTRIBUTE_SHARPNESS = 4.0
_PRIOR = 0.15
_PACE = 20.0
"""Scales the learning rate of the scalars, which must move further in a slice's few steps than weights."""


class Taste(nn.Module):
    """Evidence for a candidate in logits, 0 without a history; at first the log of its click share over the prior."""

    def __init__(self, actions: tuple[str, ...], text_width: int, attributes: int = 0) -> None:
        """`attributes`: number of buckets of attribute codes; 0 to compare texts only."""
        super().__init__()
        self.metric = nn.Linear(text_width, len(_SHARPNESS) * _PLACES, bias=False)
        nn.init.orthogonal_(self.metric.weight)
        # Random directions: the cosine of two items is about the share of attribute values they have in common.
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
        self.against = _paced(torch.full((self.views,), 0.4))

    def place(self, normal: Tensor, attribute: Tensor) -> Tensor:
        """Unit vectors [n, views, p] from standardised text vectors [n, d] and attribute codes [n, k]."""
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
        """Logits [S, M] from views of candidates [S, M, views, p] and of past items [S, J, views, p]; actions [S, J].

        `allowed` and `elapsed` [S, M, J], `presence` [S, J] as in `Visible`.
        """
        kept = (-F.softplus(_PACE * self.fading) * elapsed).masked_fill(~allowed, float("-inf"))
        worth = (_PACE * self.worth).sigmoid()[action]
        counts = torch.stack([worth, torch.ones_like(worth)], dim=-1)
        if presence is not None:
            counts = counts * presence[..., None]
        prior = (_PACE * self.prior).sigmoid()
        # With 1 and -1 appended, the product of two unit vectors is their cosine minus 1.
        candidate = F.pad(candidate, (0, 1), value=-1.0).transpose(1, 2)
        past = F.pad(past, (0, 1), value=1.0).permute(0, 2, 3, 1)
        sharp = (_PACE * self.sharpness).exp()[:, None, None] * candidate
        mass = (sharp @ past).add_(kept[:, None]).exp_()
        clicked, seen = (mass @ counts[:, None]).unbind(-1)
        strength = F.softplus(_PACE * self.strength)[:, None]
        clicks, moments = (clicked / (strength * prior)).log1p(), (seen / strength).log1p()
        logit: Tensor = torch.einsum("v,svm->sm", _PACE * self.weight, clicks)
        return logit - torch.einsum("v,svm->sm", _PACE * self.against, moments)


def _paced(value: Tensor) -> nn.Parameter:
    """A parameter stored as `value / _PACE`."""
    return nn.Parameter(value / _PACE)
