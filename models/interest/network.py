"""The moment decoder: a user's past tokens and appended candidates → one logit a candidate.

A token is the sum of an item, an action and the time since the previous token. In each layer a token attends to
itself, to the last `window` history tokens before it and to a learned attention sink; candidates do not see each
other. Distance and elapsed time are learned biases (cf. ALiBi, Press et al. 2022). Nothing depends on absolute
position, so a key/value cache can slide.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import InterestConfig
from .item_arrays import Embedded
from .moment_arrays import Batch
from .reader import ItemReader, Reading

_DROPOUT = 0.1
_HIDDEN = -1e9
"""Bias of a key that a query must not see; with -inf, gradients would be NaN."""
_LOWEST_RATE = 1e-4
_GAP_BUCKETS = 26
"""Powers of two of a second: up to about a year."""


@dataclass(frozen=True)
class Visible:
    """Which keys [S, J] each query [S, T] may see, and their distances."""

    allowed: Tensor
    """[S, T, J] bool."""
    distance: Tensor
    """[S, T, J] log(1 + number of tokens between)."""
    elapsed: Tensor
    """[S, T, J] log(1 + seconds between)."""
    presence: Tensor | None = None
    """[S, J] weight of each key, 1 by default; explanations differentiate by it."""

    @classmethod
    def between(cls, prefix: Tensor, at: Tensor, key_at: Tensor, window: int) -> "Visible":
        """Keys of instants `key_at` [S, J], for queries at `at` [S, T] with `prefix` [S, T] keys before them."""
        back = prefix[..., None] - torch.arange(key_at.shape[-1], device=prefix.device)
        return cls(
            allowed=(back > 0) & (back <= window),
            distance=back.clamp(1, window).float().log(),
            elapsed=(at[..., None] - key_at[..., None, :]).clamp_min(0.0).float().log1p(),
        )


class Attention(nn.Module):
    """Attention over the history's keys, a learned attention sink and the token itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.sink_key = nn.Parameter(torch.zeros(heads, width // heads))
        self.sink_value = nn.Parameter(torch.zeros(heads, width // heads))
        self.by_distance = nn.Parameter(-torch.linspace(0.0, 1.0, heads))
        self.by_time = nn.Parameter(torch.zeros(heads))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [S, heads, T, width / heads]."""
        parts = self.project(x).chunk(3, dim=-1)
        query, key, value = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        return query, key, value

    def forward(
        self, own: tuple[Tensor, Tensor, Tensor], keys: Tensor, values: Tensor, seen: Visible
    ) -> Tensor:
        """Outputs [S, T, width]; `own`: from `split`; `keys`, `values` [S, heads, J, width / heads]: the history's."""
        query, key, value = own
        query = query * query.shape[-1] ** -0.5
        # One product computes the biases of all heads: passes over [S, heads, T, J] take most of the time.
        terms = torch.stack([seen.distance, seen.elapsed, _HIDDEN * ~seen.allowed], dim=1)
        by = torch.stack([self.by_distance, self.by_time, torch.ones_like(self.by_time)], dim=1)
        bias = (by @ terms.flatten(2)).view(len(terms) * self.heads, *terms.shape[2:])
        if seen.presence is not None:
            bias = bias + seen.presence.log().repeat_interleave(self.heads, 0)[:, None]
        past = torch.baddbmm(bias, query.flatten(0, 1), keys.flatten(0, 1).transpose(-1, -2))
        sink = torch.einsum("shtd,hd->sht", query, self.sink_key)[..., None]
        itself = (query * key).sum(-1, keepdim=True)
        weight = torch.cat([past.view(*query.shape[:3], keys.shape[2]), sink, itself], dim=-1).softmax(dim=-1)
        length = keys.shape[2]
        mixed = (
            weight[..., :length] @ values
            + weight[..., length : length + 1] * self.sink_value[:, None]
            + weight[..., length + 1 :] * value
        )
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))
        return result


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.before_mix = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(dropout)
        )

    def remember(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of history tokens [S, J, width], for `past` of `forward`."""
        _, key, value = self.attention.split(self.before_attention(x))
        return key, value

    def forward(
        self, x: Tensor, seen: Visible, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens [S, T, width] after this layer, and their keys and values.

        Their history is the first J of: `past` (keys and values of earlier tokens), then these tokens themselves.
        """
        query, key, value = self.attention.split(self.before_attention(x))
        length = seen.allowed.shape[-1]
        keys, values = past or (key, value)
        if length > keys.shape[2]:
            keys, values = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        keys, values = keys[:, :, :length], values[:, :, :length]
        x = x + self.attention((query, key, value), keys, values, seen)
        return x + self.mix(self.before_mix(x)), key, value


class MomentDecoder(nn.Module):
    """Tokens, layers and the head that computes logits."""

    def __init__(self, config: InterestConfig, text_width: int) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.items = ItemReader(config, text_width, _DROPOUT)
        self.action = nn.Embedding(len(config.actions) + 1, width)
        self.gap = nn.Embedding(_GAP_BUCKETS + 2, width)
        self.layers = nn.ModuleList(Layer(width, config.heads, _DROPOUT) for _ in range(config.layers))
        self.last = nn.LayerNorm(width)
        self.no_history = nn.Parameter(torch.zeros(width))
        self.user = nn.Linear(width, self.items.item_embedding)
        self.match = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(_DROPOUT), nn.Linear(width, 1)
        )
        nn.init.normal_(self.action.weight, std=0.5)
        nn.init.normal_(self.gap.weight, std=0.1)
        # The other terms of the logit start at zero: a fresh decoder ranks by taste only.
        for parameter in (*self.user.parameters(), *self.match[-1].parameters()):
            nn.init.zeros_(parameter)

    def setup(self, items: Embedded, click_rate: float) -> None:
        """Before a first fit, predict the click rate and standardise `items`; a fitted decoder is not changed."""
        if self.items.standardised or not len(items):
            return
        nn.init.constant_(
            self.match[-1].get_parameter("bias"), float(torch.tensor(click_rate).logit(eps=_LOWEST_RATE))
        )
        self.items.standardise(items)

    def tokens(self, item: Tensor, action: Tensor, gap: Tensor) -> Tensor:
        """Tokens […, width] from items […, width], actions […] and seconds since the previous token […]."""
        bucket = (gap.clamp_min(0.0) + 1.0).log2().floor().long().clamp_max(_GAP_BUCKETS) + 1
        bucket = torch.where(gap < 0, torch.zeros_like(bucket), bucket)
        result: Tensor = item + self.action(action) + self.gap(bucket)
        return result

    def forward(self, batch: Batch, items: Reading) -> Tensor:
        """Logits [N] of the batch's candidates; `batch.item` indexes `items`."""
        history, window = batch.history, self.config.window
        past, shown = batch.item[:, :history], batch.item[:, history:]
        x = self.tokens(items.token[batch.item], batch.action, batch.gap)
        key_at = batch.at[:, :history]
        *lower, top = cast(Iterable[Layer], self.layers)
        if lower:
            seen = Visible.between(batch.prefix, batch.at, key_at, window)
            for layer in lower:
                x, _, _ = layer(x, seen)
        # The head uses the last layer's outputs of candidates and of each impression's newest history token only.
        candidates = torch.arange(history, x.shape[1], device=x.device).expand(len(x), -1)
        used = torch.cat([candidates, batch.newest], dim=1)
        seen = Visible.between(batch.prefix.gather(1, used), batch.at.gather(1, used), key_at, window)
        queries = x.gather(1, used[..., None].expand(-1, -1, x.shape[-1]))
        x = self.last(top(queries, seen, top.remember(x[:, :history]))[0])
        count = shown.shape[1]
        state = torch.where(
            batch.prefix[batch.row, history + batch.column, None] > 0,
            x[batch.row, count + batch.impression],
            self.no_history,
        )
        taste = self.items.taste(
            items.place[shown],
            items.place[past],
            batch.action[:, :history],
            seen.allowed[:, :count],
            seen.elapsed[:, :count],
        )
        chosen = shown[batch.row, batch.column]
        return self.head(
            x[batch.row, batch.column],
            state,
            items.item_embedding[chosen],
            items.item_bias[chosen],
            taste[batch.row, batch.column],
        )

    def head(
        self, output: Tensor, state: Tensor, item_embedding: Tensor, item_bias: Tensor, taste: Tensor
    ) -> Tensor:
        """Logits [N]: from the candidate's output, item embedding × user vector, item bias and taste.

        `output` [N, width], `state` [N or 1, width], `item_embedding` [N, d + k], `item_bias` and `taste` [N].
        """
        near = (self.user(state) * item_embedding).sum(-1) * item_embedding.shape[-1] ** -0.5
        logit: Tensor = self.match(output).squeeze(-1) + near + item_bias + taste
        return logit


def list_loss(logits: Tensor, labels: Tensor, sizes: Tensor) -> Tensor:
    """Softmax cross-entropy inside each impression (ListNet, Cao et al. 2007) + binary cross-entropy.

    `logits` and `labels` [N] are sorted by impression, with `sizes` [I] candidates each. The first term is for the
    order, the second for calibration; impressions without a positive have only the second.
    """
    clicked = (labels > 0).to(logits.dtype)
    calibration = F.binary_cross_entropy_with_logits(logits, clicked)
    inside = torch.arange(int(sizes.max()), device=logits.device)[None] < sizes[:, None]
    listed = logits.new_full(inside.shape, float("-inf")).masked_scatter(inside, logits)
    target = torch.zeros_like(inside, dtype=logits.dtype).masked_scatter(inside, labels)
    total = target.sum(1)
    chosen = total > 0
    if not bool(chosen.any()):
        return calibration
    log_share = listed[chosen].log_softmax(dim=1).masked_fill(~inside[chosen], 0.0)
    order = -(target[chosen] / total[chosen, None] * log_share).sum(1).mean()
    return order + calibration
