"""Random inputs for the kernels, and the comparison of a backend with the reference."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

VALUES, GRADIENTS = 1e-5, 1e-4
"""Relative tolerances in fp32."""


@dataclass(frozen=True)
class Case:
    """A call of one kernel: what is fixed, the tensors (None where absent), and the weights of its outputs."""

    call: Callable[..., tuple[Tensor, Tensor]]
    tensors: tuple[Tensor | None, ...]
    weights: tuple[Tensor | None, ...]

    def run(self, backend: str) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs of the kernel, and the gradients of a weighted sum of them."""
        place = _place(backend)
        inputs = [None if t is None else t.detach().clone().to(place).requires_grad_() for t in self.tensors]
        outputs = [o.cpu() for o in self.call(*inputs, backend=backend)]
        pairs = [(o, w) for o, w in zip(outputs, self.weights, strict=True) if w is not None]
        torch.autograd.backward([o for o, _ in pairs], [w for _, w in pairs])
        # A tensor that nothing depends on has the gradient zero, whichever way a backend says so.
        grads = [(torch.zeros_like(t) if t.grad is None else t.grad).cpu() for t in inputs if t is not None]
        return [o.detach() for o in outputs], grads

    def values(self, backend: str, tensors: Sequence[Tensor | None] | None = None) -> list[Tensor]:
        """Outputs of the kernel, for other tensors if some are given, where no gradient is wanted."""
        tensors = [None if t is None else t.to(_place(backend)) for t in tensors or self.tensors]
        return [o.cpu() for o in self.call(*tensors, backend=backend)]


def _place(backend: str) -> str:
    return "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Compare to `tolerance` of the largest expected value; values below 1e-6 are rounding."""
    assert actual.shape == expected.shape, what
    if expected.numel() == 0:
        return
    assert torch.isfinite(actual).all(), what
    scale = float(expected.abs().max())
    worst = float((actual - expected).abs().max())
    assert worst <= tolerance * scale + 1e-6, f"{what}: off by {worst:.2e} at a scale of {scale:.2e}"


@pytest.fixture
def forget():
    """Each test looks for packages and logs afresh; called, once more."""
    from emma_viz.kernels import backends, cuda

    def clear():
        for cached in (
            backends._log_once, backends._warn_once, backends._installed, backends._unusable, cuda.missing,
        ):  # fmt: skip
            cached.cache_clear()

    clear()
    yield clear
    clear()


@pytest.fixture(scope="session")
def assert_agrees():
    """Assert that a backend gives the reference's values, with and without gradients, and its gradients."""

    def check(case: Case, backend: str) -> None:
        expected, expected_grads = case.run("reference")
        actual, actual_grads = case.run(backend)
        # A backend may go another way where no gradient is wanted.
        alone = case.values(backend)
        for i, (a, b, e) in enumerate(zip(actual, alone, expected, strict=True)):
            assert_close(a, e, VALUES, f"output {i}")
            assert_close(b, e, VALUES, f"output {i} without gradients")
        for i, (a, e) in enumerate(zip(actual_grads, expected_grads, strict=True)):
            assert_close(a, e, GRADIENTS, f"gradient {i}")

    return check


@pytest.fixture(scope="session")
def scan_case():
    """Build a case of `selective_scan`."""
    from emma_viz import kernels

    def build(
        batch=2, length=9, inner=5, states=3, *, gate=True, skip=True, bias=True, softplus=True, initial=True,
        final=True, seed=0,
    ) -> Case:  # fmt: skip
        rand = torch.Generator().manual_seed(seed)
        normal = _normal(rand)
        delta = normal(batch, length, inner) - 1
        tensors = (
            normal(batch, length, inner),
            delta if softplus else delta.abs() * 0.3,
            -3 * torch.rand(inner, states, generator=rand),
            normal(batch, length, states),
            normal(batch, length, states),
            normal(inner) if skip else None,
            normal(batch, length, inner) if gate else None,
            # Without softplus a bias must not make a step negative: states would grow without bound.
            (normal(inner) if softplus else normal(inner).abs() * 0.1) if bias else None,
            normal(batch, inner, states) if initial else None,
        )

        def call(u, delta, A, B, C, D, z, delta_bias, initial_state, backend):
            return kernels.selective_scan(
                u, delta, A, B, C, D, z=z, delta_bias=delta_bias, delta_softplus=softplus,
                initial_state=initial_state, backend=backend,
            )  # fmt: skip

        weights = (normal(batch, length, inner), normal(batch, inner, states) if final else None)
        return Case(call, tensors, weights)

    return build


@pytest.fixture(scope="session")
def ssd_case():
    """Build a case of `ssd`."""
    from emma_viz import kernels

    def build(
        batch=2, length=9, heads=2, size=5, groups=1, states=3, *, skip=True, bias=True, softplus=True, initial=True,
        final=True, seed=0,
    ) -> Case:  # fmt: skip
        rand = torch.Generator().manual_seed(seed)
        normal = _normal(rand)
        dt = normal(batch, length, heads) - 1
        tensors = (
            normal(batch, length, heads, size),
            dt if softplus else dt.abs() * 0.3,
            -3 * torch.rand(heads, generator=rand),
            normal(batch, length, groups, states),
            normal(batch, length, groups, states),
            normal(heads) if skip else None,
            (normal(heads) if softplus else normal(heads).abs() * 0.1) if bias else None,
            normal(batch, heads, size, states) if initial else None,
        )

        def call(x, dt, A, B, C, D, dt_bias, initial_state, backend):
            return kernels.ssd(
                x,
                dt,
                A,
                B,
                C,
                D,
                dt_bias=dt_bias,
                dt_softplus=softplus,
                initial_state=initial_state,
                backend=backend,
            )

        weights = (normal(batch, length, heads, size), normal(batch, heads, size, states) if final else None)
        return Case(call, tensors, weights)

    return build


@pytest.fixture(scope="session")
def conv_case():
    """Build a case of `causal_conv1d`."""
    from emma_viz import kernels

    def build(batch=2, length=9, inner=5, taps=4, *, bias=True, silu=True, initial=True, seed=0) -> Case:
        normal = _normal(torch.Generator().manual_seed(seed))
        tensors = (
            normal(batch, length, inner),
            normal(inner, taps),
            normal(inner) if bias else None,
            normal(batch, taps - 1, inner) if initial else None,
        )

        def call(x, weight, bias, initial_state, backend):
            activation = "silu" if silu else None
            return kernels.causal_conv1d(
                x, weight, bias, initial_state=initial_state, activation=activation, backend=backend
            )  # fmt: skip

        return Case(call, tensors, (normal(batch, length, inner), normal(batch, taps - 1, inner)))

    return build


def _normal(generator: torch.Generator) -> Callable[..., Tensor]:
    return lambda *shape: torch.randn(*shape, generator=generator)
