"""What training in the released form needs: its target from a real encoder class, its start, its loss."""

import pytest
import torch

from emma_viz.data.images import ImageTransform, TowerNorm
from emma_viz.errors import InputError
from emma_viz.heads.config import MixerSize, ReleasedConfig
from emma_viz.heads.head import PaperHead, ReleasedHead
from emma_viz.heads.losses import released_loss
from emma_viz.heads.patch_embedding import PatchEmbedding
from emma_viz.models import PRESETS
from emma_viz.models.towers.vision import VisionEncoder
from emma_viz.models.vision_config import TowerConfig, VisionConfig

PATCH, SIZE, GRID = (
    14,
    90,
    (6, 6),
)  # 6 pixels at the right and below are seen by no patch, as in the official sizes
MIXER = MixerSize(ssm="mamba2", d_state=4, headdim=8)


@pytest.fixture(scope="module")
def vision() -> VisionEncoder:
    """SigLIP and DINOv2 of the transformers classes, tiny, with the official patch and normalisation."""
    torch.manual_seed(0)
    sizes = {"width": 16, "patch": PATCH, "image_size": SIZE, "n_layer": 2, "n_heads": 2, "mlp_width": 32}
    towers = (
        TowerConfig(kind="dinov2", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), **sizes),
        TowerConfig(kind="siglip", mean=(0.5,) * 3, std=(0.5,) * 3, **sizes),
    )
    return VisionEncoder(VisionConfig(backbone_id="tiny", towers=towers))


@pytest.fixture
def released(vision) -> ReleasedHead:
    torch.manual_seed(1)
    config = ReleasedConfig(
        width=16, n_taps=4, grid=GRID, n_heads=2, mixer=MIXER, target_width=16, patch=PATCH
    )
    made = ReleasedHead(config, backend="torch")
    made.embedding.copy_from_encoder(vision)
    return made


@pytest.fixture
def images():
    from PIL import Image

    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (2, 70, 110, 3), dtype=torch.uint8, generator=generator)
    return [Image.fromarray(each.numpy()) for each in pixels]


@pytest.fixture
def transform(vision) -> ImageTransform:
    norms = tuple(TowerNorm(name=each.kind, mean=each.mean, std=each.std) for each in vision.config.towers)
    return ImageTransform(strategy="resize-naive", size=SIZE, patch=PATCH, towers=norms)


def true_patches(transform, images) -> torch.Tensor:
    import numpy as np

    views = [np.asarray(transform.view(image)) for image in images]
    stacked = np.stack(
        [transform.geometry(image).patches(view) for image, view in zip(images, views, strict=True)]
    )
    return torch.from_numpy(stacked).float() / 255


def test_the_embedding_is_that_of_siglip(vision, released, transform, images):
    """Against the transformers module itself: its own embeddings minus its positions."""
    _, siglip = transform.pixels(images)
    model = vision.towers["siglip"].model
    expected = model.embeddings.patch_embedding(siglip).flatten(2).transpose(1, 2)
    torch.testing.assert_close(released.embedding.embed(siglip), expected)
    assert expected.shape == (2, 36, 16)


def test_patches_give_the_target_that_pixels_give(released, transform, images):
    _, siglip = transform.pixels(images)
    patches = true_patches(transform, images)
    torch.testing.assert_close(
        released.embedding.target_of_patches(patches), released.embedding.target(siglip), rtol=1e-3, atol=1e-3
    )


def test_the_other_encoder_can_be_the_target(vision, released, transform, images):
    dinov2, _ = transform.pixels(images)
    model = vision.towers["dinov2"].model
    expected = model.embeddings.patch_embeddings(dinov2)
    released.embedding.copy_from_encoder(vision, "dinov2")
    torch.testing.assert_close(released.embedding.embed(dinov2), expected)


def test_an_encoder_without_a_patch_convolution_is_refused(released, vision):
    pocket = PRESETS["emma-v1-pocket"]().vision
    with pytest.raises(InputError, match=r"of a siglip encoder; this model's encoders are pocket"):
        released.embedding.copy_from_encoder(VisionEncoder(pocket))
    with pytest.raises(InputError, match="of a pocket encoder"):
        released.embedding.copy_from_encoder(VisionEncoder(pocket), "pocket")
    small = PatchEmbedding(width=16, patch=7, grid=GRID)
    with pytest.raises(InputError, match="stride 7"):
        small.copy_from_encoder(vision)


def test_a_target_without_weights_is_refused():
    empty = PatchEmbedding(width=16, patch=PATCH, grid=GRID)
    with pytest.raises(InputError, match="the same for every image"):
        empty.target(torch.zeros(1, 3, SIZE, SIZE))
    with pytest.raises(InputError, match="copy_from_encoder"):
        empty.target_of_patches(torch.zeros(1, 36, PATCH, PATCH, 3))


def test_the_loss_of_a_head(released, transform, images):
    taps = [torch.randn(2, 36, 16) for _ in range(4)]
    patches = true_patches(transform, images)
    target = released.embedding.target_of_patches(patches)
    loss = released.loss(taps, patches=patches)
    torch.testing.assert_close(loss, 1e-5 * (released(taps) - target).square().sum() / 2)
    singles = [released_loss(released([tap[i : i + 1] for tap in taps]), target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss, torch.stack(singles).mean(), rtol=1e-4, atol=1e-6)
    loss.backward()
    for name, parameter in released.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert not any(name.startswith("embedding") for name, _ in released.named_parameters()), "it is frozen"
    with pytest.raises(InputError, match="pass patches="):
        released.loss(taps)


def test_parameters_may_be_of_another_type_than_buffers(released, transform, images):
    """FSDP2 in bf16 casts parameters alone."""
    taps = [torch.randn(2, 36, 16) for _ in range(4)]
    patches = true_patches(transform, images)
    exact = released.loss(taps, patches=patches)
    for parameter in released.parameters():
        parameter.data = parameter.data.bfloat16()
    loss = released.loss([tap.bfloat16() for tap in taps], patches=patches)
    torch.testing.assert_close(loss, exact, rtol=3e-2, atol=0)
    loss.backward()


def test_blocks_start_as_released(released):
    for block in released.decoder.blocks:
        for layer in (block.attention.q, block.attention.kv, block.attention.proj):
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.abs().max() > 0.9 * bound
            assert (layer.bias == 0).all()
        projection = block.mixer.in_proj
        bound = (6 / (projection.in_features + projection.out_features)) ** 0.5
        assert 0.9 * bound < projection.weight.abs().max() <= bound
    assert (released.decoder.out.bias != 0).any(), "the last layer starts as PyTorch starts it"


def test_heads_are_called_alike():
    """The training loop calls any head as head.loss(taps, patches=…, features=…)."""
    import inspect

    names = [list(inspect.signature(each.loss).parameters) for each in (PaperHead, ReleasedHead)]
    assert names[0] == names[1] == ["self", "taps", "patches", "features"]
