"""Items as arrays and as tensors: text, declared attribute values, declared numbers and id.

Attribute values and ids are open vocabularies: a stable hash maps each to one of a fixed number of buckets, so that
new items need no new rows. An item of this package is one version of an item.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .config import InterestConfig, InterestModelError

ATTRIBUTE_BUCKETS = 16_384
ID_BUCKETS = 32_768
"""Of 2,500 known items about one in 13 shares its bucket. Bucket 0 means no value or no known id."""


def attribute_code(value: str) -> int:
    """Bucket in 1…ATTRIBUTE_BUCKETS-1 of an attribute value written `name=value`."""
    return _bucket(value, ATTRIBUTE_BUCKETS)


def id_code(item_id: str) -> int:
    """Bucket in 1…ID_BUCKETS-1 of an item id."""
    return _bucket(item_id, ID_BUCKETS)


def _bucket(value: str, buckets: int) -> int:
    content = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return 1 + int.from_bytes(content) % (buckets - 1)


@dataclass(frozen=True)
class ItemArrays:
    """N items."""

    texts: list[str]
    """Distinct texts."""
    text: npt.NDArray[np.int64]
    """[N] index into `texts`."""
    attribute_start: npt.NDArray[np.int64]
    """[N+1] the attribute values of item n are `attribute[attribute_start[n]:attribute_start[n+1]]`."""
    attribute: npt.NDArray[np.int64]
    """[A] `attribute_code` of each value."""
    number: npt.NDArray[np.float32]
    """[N, F] declared numbers in any unit, NaN if missing."""
    id: npt.NDArray[np.int64]
    """[N] `id_code`, or 0 for an item without one."""

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "ItemArrays":
        """One item per text, without attribute values, numbers or id."""
        count = len(texts)
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return cls(
            texts=list(place),
            text=np.array([place[text] for text in texts], dtype=np.int64),
            attribute_start=np.zeros(count + 1, dtype=np.int64),
            attribute=np.zeros(0, dtype=np.int64),
            number=np.zeros((count, 0), dtype=np.float32),
            id=np.zeros(count, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.text)

    def check(self, config: InterestConfig) -> None:
        """Raise InterestModelError if the arrays contradict each other or the configuration."""
        rules = {
            "item arrays differ in length": len(self.text)
            == len(self.id)
            == len(self.number)
            == len(self.attribute_start) - 1,
            "attribute arrays differ in length": len(self.attribute) == int(self.attribute_start[-1]),
            "a text index is outside the texts": inside(self.text, len(self.texts)),
            "an attribute code is outside its buckets": inside(self.attribute, ATTRIBUTE_BUCKETS),
            "an id code is outside its buckets": inside(self.id, ID_BUCKETS),
            f"items have {self.number.shape[1]} numbers, the configuration names {len(config.numbers)}": (
                self.number.shape[1] == len(config.numbers) or not config.numbers
            ),
        }
        broken = [sentence for sentence, holds in rules.items() if not holds]
        if broken:
            raise InterestModelError(f"the item arrays are inconsistent: {'; '.join(broken)}")

    def digest(self) -> str:
        """Hash of the contents."""
        content = hashlib.sha256()
        for text in self.texts:
            content.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        for array in (self.text, self.attribute_start, self.attribute, self.number, self.id):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()

    def pick(self, chosen: npt.NDArray[np.int64]) -> "ItemArrays":
        """The chosen items in that order, with their texts."""
        used, text = np.unique(self.text[chosen], return_inverse=True)
        sizes = np.diff(self.attribute_start)[chosen]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        within = np.arange(start[-1]) - np.repeat(start[:-1], sizes)
        return ItemArrays(
            texts=[self.texts[number] for number in used],
            text=text.astype(np.int64),
            attribute_start=start,
            attribute=self.attribute[np.repeat(self.attribute_start[chosen], sizes) + within],
            number=self.number[chosen],
            id=self.id[chosen],
        )

    def tensors(self, vectors: Tensor) -> "Embedded":
        """The items as tensors with their text vectors from `vectors` [texts, d], on the same device."""
        sizes = np.diff(self.attribute_start)
        attribute = np.zeros((len(self), int(sizes.max(initial=1))), dtype=np.int64)
        row = np.repeat(np.arange(len(self)), sizes)
        attribute[row, np.arange(len(self.attribute)) - np.repeat(self.attribute_start[:-1], sizes)] = (
            self.attribute
        )
        device = vectors.device
        return Embedded(
            text=vectors[torch.from_numpy(self.text).to(device)],
            attribute=torch.from_numpy(attribute).to(device),
            number=torch.from_numpy(self.number).to(device),
            id=torch.from_numpy(self.id).to(device),
        )


@dataclass(frozen=True)
class Embedded:
    """n items as tensors, the decoder's input."""

    text: Tensor
    """[n, d] text vectors."""
    attribute: Tensor
    """[n, k] attribute codes, padded with 0."""
    number: Tensor
    """[n, F] declared numbers, NaN if missing."""
    id: Tensor
    """[n] id codes."""

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, chosen: int | npt.NDArray[np.int64] | Tensor) -> "Embedded":
        """The items at some positions; a single item for an integer."""
        place = torch.as_tensor([chosen] if isinstance(chosen, int) else chosen, device=self.text.device)
        return Embedded(**{name: tensor[place] for name, tensor in vars(self).items()})

    def joined(self, more: "Embedded") -> "Embedded":
        """These items followed by `more`."""
        width = max(self.attribute.shape[1], more.attribute.shape[1])
        both = [
            replace(part, attribute=F.pad(part.attribute, (0, width - part.attribute.shape[1])))
            for part in (self, more)
        ]
        return Embedded(**{name: torch.cat([vars(part)[name] for part in both]) for name in vars(self)})

    def with_text(self, text: Tensor) -> "Embedded":
        """The same items with other text vectors [n, d]."""
        return replace(self, text=text)


def inside(index: npt.NDArray[np.int64], size: int) -> bool:
    """Whether every index is in 0…size-1."""
    return not len(index) or bool(index.min() >= 0 and index.max() < size)
