"""The causal convolution of a mixer, with its memory kept in a cache."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emma_viz.kernels import causal_conv1d, causal_conv1d_step


def convolve(
    x: Float[Tensor, "B L X"],
    conv: nn.Conv1d,
    state: Float[Tensor, "B J X"] | None,
    lengths: Int[Tensor, " B"] | None,
    *,
    backend: str,
) -> tuple[Float[Tensor, "B L X"], Float[Tensor, "B J X"]]:
    """Causal depthwise convolution and SiLU.

    Args:
        x: inputs, channels last.
        conv: holds the official parameters (`X 1 K` and `X`); it is not called.
        state: the J = K − 1 inputs before x, or None at the beginning.
        lengths: tokens of each right-padded sample, or None when nothing is padded.
        backend: kernel backend.

    Returns:
        The outputs, and the last J inputs of each sample (at its own end).
    """
    weight = conv.weight[:, 0]  # "X 1 K -> X K"
    if state is not None and x.shape[1] == 1:
        y, new_state = causal_conv1d_step(
            state, x[:, 0], weight, conv.bias, activation="silu", backend=backend
        )
        return y[:, None], new_state
    y, new_state = causal_conv1d(
        x, weight, conv.bias, initial_state=state, activation="silu", backend=backend
    )
    if lengths is not None:
        new_state = _last_inputs(x, state, lengths, weight.shape[1] - 1)
    return y, new_state


def before_silu(
    x: Float[Tensor, "B L X"], conv: nn.Conv1d, state: Float[Tensor, "B J X"] | None, *, backend: str
) -> Float[Tensor, "B L X"]:
    """The convolution as in `convolve`, before its SiLU."""
    weight = conv.weight[:, 0]
    if state is not None and x.shape[1] == 1:
        y, _ = causal_conv1d_step(state, x[:, 0], weight, conv.bias, activation=None, backend=backend)
        return y[:, None]
    return causal_conv1d(x, weight, conv.bias, initial_state=state, activation=None, backend=backend)[0]


def _last_inputs(
    x: Float[Tensor, "B L X"], state: Float[Tensor, "B J X"] | None, lengths: Int[Tensor, " B"], kept: int
) -> Float[Tensor, "B J X"]:
    before = x.new_zeros(x.shape[0], kept, x.shape[2]) if state is None else state
    whole = torch.cat([before, x], dim=1)
    # Input t of x sits at row kept + t, so the last `kept` inputs before `length` start at row `length`.
    rows = lengths[:, None] + torch.arange(kept, device=x.device)
    return whole[torch.arange(x.shape[0], device=x.device)[:, None], rows]
