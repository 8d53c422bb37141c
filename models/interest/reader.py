"""An item's embedding, token and bias, from its text vector, attribute values, numbers and id.

Embeddings of ids and attribute values start at zero, so that values never trained on are neutral. Training drops ids
at random, so that the model also works for new items, whose ids it does not know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import InterestConfig
from .item_arrays import ATTRIBUTE_BUCKETS, ID_BUCKETS, Embedded, ItemArrays
from .taste import Taste

_CODE_WIDTH = 24
_BINS = 8


@dataclass(frozen=True)
class Reading:
    """What the decoder uses of n distinct items."""

    token: Tensor
    """[n, width] the item's part of a token."""
    item_embedding: Tensor
    """[n, d + k] its product with the user vector is part of the logit."""
    item_bias: Tensor
    """[n] the item's part of the logit that is the same for all users."""
    place: Tensor
    """[n, views, p] unit vectors that `Taste` compares."""

    def __getitem__(self, chosen: Tensor) -> "Reading":
        """Some of the items."""
        return Reading(**{name: tensor[chosen] for name, tensor in vars(self).items()})

    def joined(self, other: "Reading") -> "Reading":
        """These items, then others."""
        return Reading(
            **{name: torch.cat([tensor, getattr(other, name)]) for name, tensor in vars(self).items()}
        )


class ItemReader(nn.Module):
    """Items → `Reading`."""

    centre: Tensor
    spread: Tensor
    edges: Tensor

    def __init__(self, config: InterestConfig, text_width: int, dropout: float) -> None:
        super().__init__()
        self.config = config
        numbers = len(config.numbers)
        self.register_buffer("centre", torch.zeros(text_width))
        self.register_buffer("spread", torch.zeros(()))
        self.register_buffer("edges", torch.zeros(numbers, _BINS + 1))
        # The last column of a table is the value's item bias, the others are part of the item embedding.
        self.attribute = _table(ATTRIBUTE_BUCKETS) if config.attributes else None
        self.id = _table(ID_BUCKETS) if config.ids else None
        codes = _CODE_WIDTH * (int(config.attributes) + int(config.ids))
        beside = codes + numbers * (_BINS + 1)
        self.item_embedding = text_width + beside
        self.text = nn.Linear(text_width, config.width)
        self.beside = nn.Linear(beside, config.width, bias=False) if beside else None
        self.item_bias = nn.Sequential(
            nn.Linear(self.item_embedding, 2 * config.width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * config.width, 1),
        )
        for parameter in self.item_bias[-1].parameters():
            nn.init.zeros_(parameter)
        self.taste = Taste(
            config.actions, text_width, attributes=ATTRIBUTE_BUCKETS if config.attributes else 0
        )

    def tables(self) -> list[nn.Embedding]:
        """The embeddings of attribute values and ids, which start at zero."""
        return [table for table in (self.attribute, self.id) if table is not None]

    @contextmanager
    def narrowed(self, items: ItemArrays) -> Iterator[ItemArrays]:
        """Inside, tables have only the rows of the codes in `items`; yields the items with these rows as codes.

        An optimiser step then touches the few rows that have gradients, not all buckets.
        """
        # Code 0, for none, stays row 0.
        attributes, attribute_rows = np.unique(np.append(items.attribute, 0), return_inverse=True)
        ids, id_rows = np.unique(np.append(items.id, 0), return_inverse=True)
        tables = [(self.attribute, attributes), (self.taste.attribute, attributes), (self.id, ids)]
        wide = [
            (table, table.weight, torch.from_numpy(rows).to(table.weight.device))
            for table, rows in tables
            if table is not None
        ]
        for table, weight, rows in wide:
            table.weight = nn.Parameter(weight.detach()[rows])
        try:
            yield replace(items, attribute=attribute_rows[:-1], id=id_rows[:-1])
        finally:
            for table, weight, rows in wide:
                weight.data[rows] = table.weight.data
                table.weight = weight

    @property
    def standardised(self) -> bool:
        """Whether a fit has set the scales of text vectors and numbers."""
        return float(self.spread) > 0

    def standardise(self, items: Embedded) -> None:
        """Set the scales of text vectors and numbers to those of `items`."""
        centred = items.text - items.text.mean(0)
        self.centre.copy_(items.text.mean(0))
        self.spread.copy_(centred.square().mean().sqrt().clamp_min(1e-4))
        if len(self.edges):
            shares = torch.linspace(0, 1, _BINS + 1, device=items.number.device)
            self.edges.copy_(items.number.nanquantile(shares, dim=0).T.nan_to_num(0.0))

    def forward(self, items: Embedded) -> Reading:
        """Read items; in training, drop ids at random."""
        # Text vectors point in similar directions: centre and scale them.
        text = (items.text - self.centre) / self.spread.clamp_min(1e-4)
        parts, bias = self._beside(items)
        beside = torch.cat([text[:, :0], *parts], dim=1)
        item_embedding = torch.cat([text, beside], dim=1)
        token = self.text(text)
        return Reading(
            token=token if self.beside is None else token + self.beside(beside),
            item_embedding=item_embedding,
            item_bias=self.item_bias(item_embedding).squeeze(-1) + bias,
            place=self.taste.place(text, items.attribute),
        )

    def _beside(self, items: Embedded) -> tuple[list[Tensor], Tensor]:
        """Parts of the item embedding besides the text, each [n, …], and their item bias [n]."""
        parts, bias = [], items.text.new_zeros(len(items))
        if self.attribute is not None:
            bag = F.embedding_bag(items.attribute, self.attribute.weight, mode="mean", padding_idx=0)
            parts.append(bag[:, :-1])
            bias = bias + bag[:, -1]
        if self.id is not None:
            own = self.id(items.id)
            if self.training:
                own = own * (torch.rand(len(own), 1, device=own.device) >= self.config.id_dropout)
            parts.append(own[:, :-1])
            bias = bias + own[:, -1]
        if len(self.edges):
            parts.append(self._numbers(items.number))
        return parts, bias

    def _numbers(self, number: Tensor) -> Tensor:
        """[n, F·(bins + 1)] of numbers [n, F]: how far each fills the bins between quantiles; whether it is missing.

        Piecewise linear encoding (Gorishniy et al. 2022), for any unit and distribution.
        """
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        value = number[..., None]
        share = torch.where(
            high > low, (value - low) / (high - low).clamp_min(1e-12), (value >= high).float()
        )
        missing = value.isnan()
        filled = share.clamp(0.0, 1.0).masked_fill(missing, 0.0) - 0.5 * ~missing
        return torch.cat([filled, missing.float()], dim=-1).flatten(1)


def _table(buckets: int) -> nn.Embedding:
    table = nn.Embedding(buckets, _CODE_WIDTH + 1, padding_idx=0)
    nn.init.zeros_(table.weight)
    return table
