"""The product of few rows of the `cpu` backend gives what torch's product gives, and leaves the rest to torch."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from emma_viz import kernels
from emma_viz.errors import InputError
from emma_viz.kernels import products
from emma_viz.kernels.cpu import MOST_ROWS
from emma_viz.models.linear import LinearLayer, use_kernels
from tests.unchecked import types_unchecked

LARGE = 1 << 18
"""Numbers of the weights from which the kernel is taken."""


def inputs(rows=(1, 1), given=640, made=417, dtype=torch.float32, seed=0):
    rand = torch.Generator().manual_seed(seed)
    x = torch.randn(*rows, given, generator=rand)
    weight, bias = torch.randn(made, given, generator=rand), torch.randn(made, generator=rand)
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


def exact(x, weight, bias=None):
    return functional.linear(x.double(), weight.double(), None if bias is None else bias.double())


class Standing(torch.Tensor):
    pass


@pytest.fixture
def kernel_calls(monkeypatch):
    from emma_viz.kernels import cpu

    calls, linear = [], cpu.linear
    monkeypatch.setattr(cpu, "linear", lambda *given: calls.append(given) or linear(*given))
    return calls


@settings(max_examples=25, derandomize=True)
@given(data=st.data())
def test_it_gives_the_definition(data):
    rows = data.draw(st.sampled_from([(n,) for n in range(1, 18)] + [(2, 3), (8, 1), (1, 1), ()]))
    given = data.draw(st.integers(500, 700))
    made = LARGE // given + data.draw(st.integers(1, 40))
    x, weight, bias = inputs(rows, given, made, seed=data.draw(st.integers(0, 99)))
    with_bias = data.draw(st.booleans())
    actual = kernels.linear(x, weight, bias if with_bias else None)
    expected = exact(x, weight, bias if with_bias else None)
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", range(1, MOST_ROWS + 1))
def test_few_rows_take_the_kernel(rows, kernel_calls):
    x, weight, bias = inputs((rows, 1))
    kernels.linear(x, weight, bias)
    assert len(kernel_calls) == 1
    kernels.linear(x, weight, bias, backend="torch")
    assert len(kernel_calls) == 1


@pytest.mark.parametrize("rows", [1, 2])
def test_rows_in_bf16_are_rounded_once(rows, kernel_calls):
    x, weight, bias = inputs((rows, 1), dtype=torch.bfloat16)
    for calls, added in enumerate((None, bias), start=1):
        actual = kernels.linear(x, weight, added)
        assert len(kernel_calls) == calls
        assert actual.dtype == torch.bfloat16
        torch.testing.assert_close(actual, exact(x, weight, added).to(torch.bfloat16), rtol=2**-8, atol=1e-3)
        assert (actual == exact(x, weight, added).to(torch.bfloat16)).float().mean() > 0.99


def test_the_rest_is_left_to_torch(kernel_calls, monkeypatch):
    monkeypatch.setattr(products, "_emulates_halves", lambda: False)
    x, weight, bias = inputs()
    strided = torch.cat([weight, weight], dim=1)[:, : weight.shape[1]]
    wanted = weight.clone().requires_grad_()
    for name, call in {
        "more rows than a vector has": lambda: kernels.linear(*inputs((MOST_ROWS + 1, 1))),
        "no row": lambda: kernels.linear(x[:0], weight, bias),
        "small weights": lambda: kernels.linear(*inputs(made=100)),
        "three rows in bf16": lambda: kernels.linear(*inputs((3, 1), dtype=torch.bfloat16)),
        "float64": lambda: kernels.linear(*inputs(dtype=torch.float64)),
        "a tensor that stands for one": lambda: kernels.linear(x.as_subclass(Standing), weight),
        "weights that are not contiguous": lambda: kernels.linear(x, strided, bias),
        "a gradient of the weights": lambda: kernels.linear(x, wanted, bias),
    }.items():
        call()
        assert not kernel_calls, name
    with torch.autocast("cpu", torch.bfloat16):
        assert kernels.linear(x, weight, bias).dtype == torch.bfloat16
    assert not kernel_calls
    kernels.linear(x, wanted).sum().backward()
    torch.testing.assert_close(wanted.grad[0], x[0, 0])
    with torch.no_grad():
        kernels.linear(x, wanted)
    assert len(kernel_calls) == 1


@pytest.mark.parametrize("made", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_fewer_rows_of_the_weights_than_are_read_at_once(rows, made, kernel_calls):
    x, weight, bias = inputs((rows,), given=LARGE, made=made)
    actual = kernels.linear(x, weight, bias)
    assert len(kernel_calls) == 1
    torch.testing.assert_close(actual.double(), exact(x, weight, bias), rtol=1e-5, atol=1e-2)


def test_small_weights_do_not_import_numba():
    code = (
        "import sys, torch; from emma_viz.models.linear import LinearLayer; LinearLayer(9, 9)(torch.ones(1, 9)); "
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rows", [1, 2, 8, MOST_ROWS])
def test_rows_of_a_wider_tensor_and_three_threads(rows, kernel_calls):
    """Rows of the weights that are left over from the tiles are others with other threads."""
    x, weight, _ = inputs((rows, 1), given=1280, made=3 * 417)
    half = x[..., 640:]
    weight = weight[:, :640].contiguous()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = kernels.linear(half, weight)
        torch.set_num_threads(1)
        assert torch.equal(shared, kernels.linear(half.contiguous(), weight))
    finally:
        torch.set_num_threads(before)
    assert len(kernel_calls) == 2


@pytest.mark.parametrize("rows", [1, 2, 8, MOST_ROWS])
def test_the_error_does_not_grow_with_the_inputs(rows):
    x, weight, _ = inputs((rows,), given=6000, made=64)
    expected = exact(x, weight)
    assert (kernels.linear(x, weight) - expected).pow(2).mean().sqrt() < 5e-7 * expected.std()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_compiler_a_trace_and_a_transformation_see_a_product(kernel_calls, unchecked):
    x, weight, bias = inputs((2,))
    layer = LinearLayer(640, 417)
    compiled = torch.compile(lambda x: kernels.linear(x, weight, bias), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), functional.linear(x, weight, bias))
    mapped = torch.func.vmap(lambda row: kernels.linear(row, weight, bias))(x)
    torch.testing.assert_close(mapped, functional.linear(x, weight, bias), rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        traced = torch.jit.trace(layer, x, check_trace=False)
        assert torch.equal(traced(2 * x), functional.linear(2 * x, layer.weight, layer.bias))
        with FlopCounterMode(display=False) as counted:
            kernels.linear(x, weight)
    assert counted.get_total_flops() == 2 * 2 * 640 * 417
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(kernels.linear(dual, weight)).tangent
    torch.testing.assert_close(tangent, functional.linear(torch.ones_like(x), weight))
    assert not kernel_calls


def test_torch_fx_follows_a_layer(unchecked):
    network = torch.nn.Sequential(LinearLayer(640, 417), torch.nn.GELU())
    followed, x = torch.fx.symbolic_trace(network), torch.randn(2, 640)
    torch.testing.assert_close(followed(x), network(x))


def test_a_default_device_follows_nothing(kernel_calls):
    x, weight, bias = inputs()
    with torch.device("cpu"):
        actual = kernels.linear(x, weight, bias)
        with FlopCounterMode(display=False):
            kernels.linear(x, weight, bias)
    assert len(kernel_calls) == 1
    torch.testing.assert_close(actual, functional.linear(x, weight, bias), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 5, MOST_ROWS + 1, 40])
def test_half_precision_that_torch_only_emulates_is_multiplied_in_fp32(rows, dtype, monkeypatch):
    """As on AVX2. Blocks of the weights that end within them, too."""
    monkeypatch.setattr(products, "_emulates_halves", lambda: True)
    monkeypatch.setattr(products, "_BLOCK", 100 * 640)
    x, weight, bias = inputs((rows, 1), dtype=dtype)
    seen, product = [], functional.linear
    monkeypatch.setattr(
        functional, "linear", lambda x, *rest: seen.append((x.dtype, len(rest[0]))) or product(x, *rest)
    )
    for added in (None, bias):
        seen.clear()
        actual = kernels.linear(x, weight, added)
        found = seen[:]
        assert actual.dtype == dtype
        expected = exact(x, weight, added).to(dtype)
        if rows <= 8 and dtype == torch.float16:
            assert found == [(dtype, 417)]
        else:
            assert found == (
                [] if rows <= 8 else [(torch.float32, part) for part in (100, 100, 100, 100, 17)]
            )
            assert (actual == expected).float().mean() > 0.99
        torch.testing.assert_close(actual, expected, rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize("rows", [1, 3, 8, MOST_ROWS])
def test_nan_and_infinity_stay_in_their_row(rows):
    x, weight, _ = inputs((rows,))
    for number in (float("nan"), float("inf")):
        hard = x.clone()
        hard[rows - 1, 3] = number
        actual = kernels.linear(hard, weight)
        assert not actual[rows - 1].isfinite().any()
        assert torch.equal(actual[: rows - 1], kernels.linear(x, weight)[: rows - 1])


def test_the_storage_of_the_weights_can_be_freed_afterwards(kernel_calls):
    # As FSDP2 does with what it gathered.
    layer = LinearLayer(640, 417)
    with torch.no_grad():
        layer(torch.randn(1, 640))
    assert len(kernel_calls) == 1
    layer.weight.untyped_storage().resize_(0)


def test_a_layer_has_the_names_and_the_start_of_torch():
    torch.manual_seed(3)
    mine = LinearLayer(640, 417)
    torch.manual_seed(3)
    theirs = torch.nn.Linear(640, 417)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(mine.state_dict()[key], value) for key, value in theirs.state_dict().items())
    x = torch.randn(2, 1, 640)
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_a_network_of_another_package_gets_the_layers(kernel_calls):
    network = torch.nn.Sequential(
        torch.nn.Linear(640, 417), torch.nn.GELU(), LinearLayer(417, 3, backend="torch")
    )
    before = {key: value.clone() for key, value in network.state_dict().items()}
    use_kernels(network)
    assert [type(each) for each in network] == [LinearLayer, torch.nn.GELU, LinearLayer]
    assert network[0].backend == "auto"
    assert network[2].backend == "torch"
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    with torch.no_grad():
        x = torch.randn(1, 640)
        torch.testing.assert_close(
            network[0](x), functional.linear(x, *network[0].parameters()), rtol=1e-5, atol=1e-5
        )
    assert len(kernel_calls) == 1


def test_a_backend_and_a_bias_that_do_not_fit_are_refused_for_any_number_of_rows():
    for rows in (1, 40):
        x, weight, bias = inputs((rows,))
        with pytest.raises(InputError, match="no kernel backend 'nope'"):
            kernels.linear(x, weight, backend="nope")
        with pytest.raises(RuntimeError):
            kernels.linear(x, weight, bias.double())
        for wrong in (bias[:1], bias[:-1], torch.cat([bias, bias])):
            with types_unchecked(), pytest.raises(InputError, match=r"417 numbers.*shape is"):
                kernels.linear(x, weight, wrong)


def test_a_width_that_does_not_fit_is_refused():
    x, weight, _ = inputs()
    with types_unchecked(), pytest.raises(InputError, match=r"640 numbers a row.*\(\)"):
        kernels.linear(x[0, 0, 0], weight)
    with types_unchecked(), pytest.raises(InputError, match=r"640 numbers a row.*\(1, 1, 639\)"):
        kernels.linear(x[..., :-1], weight)
