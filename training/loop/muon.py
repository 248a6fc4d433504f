"""Muon for the matrices of a small model's blocks, AdamW for the rest, in one optimizer and in fp32."""

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton–Schulz iteration, as torch.optim.Muon has them."""
ITERATIONS = 5
MOMENTUM = 0.95


class MuonAdamW(torch.optim.AdamW):
    """AdamW; groups with "muon": True hold matrices, which move by Muon with Nesterov momentum instead.

    A Muon step is as large as AdamW's usually is, so both share a rate (`match_rms_adamw` in torch.optim.Muon, after
    Liu et al., arXiv 2502.16982). torch.optim.Muon computes in bf16, which CPUs without AVX-512 emulate: its step takes
    three times as long as forward and backward of a pocket model. Those groups have no gradients after a step.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """One step of both."""
        for group in self.param_groups:
            if not group["muon"]:
                continue
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    # AdamW asks every state for its step when it is loaded.
                    state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(matrix)}
                mean = state["momentum"]
                mean.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(mean, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)
                matrix.grad = None  # AdamW passes over what has none.
        return super().step(closure)


def orthogonal(matrix: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Nearly the closest matrix with orthonormal rows or columns: singular values between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * (gram @ gram)) @ wide
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
