"""Low-rank adapters on an encoder's attention projections, through peft.

LoRA (Hu et al. 2022) adds a trained product of two narrow matrices to each frozen projection. AdaLoRA (Zhang et
al. 2023) starts with higher ranks and removes the least important ones during training.
"""

import math

import torch
from torch import Tensor, nn

_PROJECTIONS = {
    *("query", "key", "value", "q", "k", "v", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin"),
    *("query_proj", "key_proj", "value_proj", "qkv", "qkv_proj", "in_proj", "Wqkv", "query_key_value"),
}
_NAME = "default"
_SURPLUS = 1.5
"""AdaLoRA's initial rank, relative to its final rank."""
_MIN_STEPS = 10
"""A fit of fewer steps keeps all ranks: it cannot estimate their importance."""
_BEFORE, _AFTER = 0.1, 0.3
"""Shares of the steps before the first removal of a rank, and after the last."""
_ALLOCATIONS = 100


def projections(model: nn.Module) -> list[str]:
    """Names of the linear layers for queries, keys and values; of all linear layers if none has a known name."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in linear if name.rpartition(".")[2] in _PROJECTIONS] or linear


def add_lora(model: nn.Module, rank: int, seed: int) -> None:
    """Add adapters to `model`; its outputs do not change until they are trained."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=projections(model))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, _NAME)


class Allocation:
    """AdaLoRA's adapters of a model and their ranks in use."""

    def __init__(self, model: nn.Module, rank: int, seed: int) -> None:
        """Add adapters to `model`; its outputs do not change until they are trained."""
        from peft import AdaLoraConfig, inject_adapter_in_model
        from peft.tuners.adalora import RankAllocator

        config = AdaLoraConfig(
            init_r=math.ceil(_SURPLUS * rank),
            target_r=rank,
            lora_alpha=2 * rank,
            target_modules=projections(model),
            total_step=_MIN_STEPS,  # `stepped` sets it
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model, _NAME)
        self._model, self._config = model, config
        self._allocator = RankAllocator(model, config, _NAME)
        self._kept: dict[str, list[bool]] = {}

    def stepped(self, step: int, steps: int) -> None:
        """Update the importance of ranks after step `step` (from 1) of `steps`; remove ranks beyond the budget."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        if steps < _MIN_STEPS or any(p.grad is None for p in trained):
            return
        config, allocator = self._config, self._allocator
        config.total_step = steps
        config.tinit, config.tfinal = round(_BEFORE * steps), round(_AFTER * steps)
        config.deltaT = max(1, steps // _ALLOCATIONS)
        last = steps - config.tfinal
        if step <= last:
            _, kept = allocator.update_and_allocate(self._model, step, force_mask=step == last)
            self._kept = kept or self._kept
        elif self._kept:
            allocator.mask_using_rank_pattern(self._model, self._kept)

    def penalty(self) -> Tensor:
        """Regularisation term: how far the adapters' singular vectors are from orthogonal."""
        distance = []
        for name, weight in self._model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                narrow = weight if ".lora_A." in name else weight.T
                distance.append(
                    torch.linalg.matrix_norm(narrow @ narrow.T - torch.eye(len(narrow)).to(weight))
                )
        share = float(self._config.orth_reg_weight)
        return share * torch.stack(distance).mean()

    def state(self) -> dict[str, Tensor]:
        """State of the rank allocation, for the checkpoint."""
        averages = {"importance": self._allocator.exp_avg_ipt, "uncertainty": self._allocator.exp_avg_unc}
        state = {f"{kind}.{name}": value for kind, all_ in averages.items() for name, value in all_.items()}
        return state | {f"kept.{name}": torch.tensor(kept) for name, kept in self._kept.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        self._allocator.reset_ipt()
        weights = dict(self._model.named_parameters())
        for place, value in state.items():
            kind, _, name = place.partition(".")
            if kind == "kept":
                self._kept[name] = value.tolist()
                continue
            average = self._allocator.exp_avg_ipt if kind == "importance" else self._allocator.exp_avg_unc
            average[name] = value.to(weights[name].device)
            self._allocator.ipt[name] = torch.zeros_like(weights[name])
