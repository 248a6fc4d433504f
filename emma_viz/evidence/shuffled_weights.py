"""A model without what it learnt: the numbers of each weight in a random order, put back when the block ends."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def shuffled_weights(modules: Iterable[nn.Module], *, seed: int = 0) -> Generator[None]:
    """Inside the block, the numbers of each parameter stand in a random order.

    Every tensor keeps its distribution and so its scale, which fresh weights would not. No copy of the model is made:
    orders are drawn again and undone, and every number comes back to its place exactly.

    Args:
        modules: whose parameters, those of their parts included; a parameter that is met twice is shuffled once.
        seed: of the orders.
    """
    parameters = list({id(each): each for module in modules for each in module.parameters()}.values())
    done = 0
    try:
        for number, parameter in enumerate(parameters):
            _place(parameter, _order(parameter, seed, number))
            done = number + 1
        yield
    finally:
        for number, parameter in enumerate(parameters[:done]):
            _place(parameter, torch.argsort(_order(parameter, seed, number)))


def _order(parameter: nn.Parameter, seed: int, number: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1_000_003 * seed + number)
    return torch.randperm(parameter.numel(), generator=draw)


@torch.no_grad()
def _place(parameter: nn.Parameter, order: torch.Tensor) -> None:
    parameter.copy_(parameter.flatten()[order.to(parameter.device)].view_as(parameter))
