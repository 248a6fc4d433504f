"""A linear layer whose product is `emma_viz.kernels.linear`."""

from jaxtyping import Float
from torch import Tensor, nn

from emma_viz import kernels


class LinearLayer(nn.Linear):
    """As `torch.nn.Linear`, in names and numbers; see `emma_viz.kernels.linear`.

    Args:
        in_features, out_features: widths.
        bias: whether there is one.
        backend: kernel backend; "auto" picks by device.
        device: where the parameters are made.
    """

    backend: str = "auto"
    """Kernel backend of the products."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        backend: str = "auto",
        device: str | None = None,
    ):
        super().__init__(in_features, out_features, bias=bias, device=device)
        self.backend = backend

    def forward(self, input: Float[Tensor, "*rows X"]) -> Float[Tensor, "*rows Y"]:
        """x Wᵀ + b."""
        return kernels.linear(input, self.weight, self.bias, backend=self.backend)


def use_kernels(module: nn.Module, *, backend: str = "auto") -> None:
    """Make the plain linear layers of a network `LinearLayer`s, in place, also those that another package wrote.

    Args:
        module: the network; its parameters and their names stay.
        backend: kernel backend of these layers.
    """
    for each in module.modules():
        if type(each) is nn.Linear:
            each.__class__ = LinearLayer
            setattr(each, "backend", backend)  # noqa: B010 (of the class that it has now)
