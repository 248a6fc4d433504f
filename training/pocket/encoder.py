"""Pre-training of the pocket encoder: what is in each patch, its colour, its pixels, and where objects have centres."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from emma_viz.data.tabletop import COLOURS, KINDS
from emma_viz.errors import TrainingError
from emma_viz.files.arrays import read_npy
from emma_viz.metrics.quality import r2
from emma_viz.models.towers.pocket import PocketEncoder
from emma_viz.models.vision_config import TowerConfig
from training.loop.config import EncoderRecipe, as_record
from training.loop.disk_arrays import new_array
from training.loop.run import train
from training.pocket.scenes import GRID, NO_COLOUR, PATCH, SceneArrays

MEAN, STD = 0.5, 0.25
"""Constants by which pixels in [0, 1] are normalised, for the encoder's input and for every pixel target."""
ENCODER_SCORES = "scores.json"
"""In the folder of the encoder's run: how well it does on validation scenes."""
_AT_ONCE = 64


def normalised_images(images: np.ndarray) -> Tensor:
    """uint8 (n, S, S, 3) → float32 (n, 3, S, S), (pixel − 0.5) / 0.25."""
    scaled = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return (scaled - MEAN) / STD


def pixel_patches(pixels: Tensor) -> Tensor:
    """(n, 3, S, S) → (n, T, 192): each patch's pixels, row by row, the colours innermost."""
    return rearrange(pixels, "n c (R p) (C q) -> n (R C) (p q c)", p=PATCH, q=PATCH)


class EncoderTask(nn.Module):
    """The encoder with one linear head per question; the heads are thrown away afterwards."""

    def __init__(self, encoder: PocketEncoder):
        super().__init__()
        self.encoder = encoder
        sizes = {"kind": 1 + len(KINDS), "color": len(COLOURS), "pixels": 3 * PATCH * PATCH, "center": 1}
        self.heads = nn.ModuleDict(
            {name: nn.Linear(encoder.config.width, size) for name, size in sizes.items()}
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised pixels (n, 3, S, S) → per head (n, T, size), fp32."""
        tokens = self.encoder(pixels.contiguous(memory_format=torch.channels_last))
        return {name: head(tokens) for name, head in self.heads.items()}


def encoder_loss(heads: dict[str, Tensor], batch: dict[str, Tensor], recipe: EncoderRecipe):
    """Sum of the four losses, and the numbers worth watching."""
    kinds, colours = batch["kinds"].flatten(1), batch["colours"].flatten(1)
    coloured = colours != NO_COLOUR
    things = kinds > 0
    kind = F.cross_entropy(heads["kind"][things], kinds[things]) + F.cross_entropy(
        heads["kind"][~things], kinds[~things]
    )
    color = F.cross_entropy(heads["color"][coloured], colours[coloured])
    pixels = F.mse_loss(heads["pixels"], batch["target"])
    center = F.mse_loss(heads["center"].squeeze(-1), batch["centers"].flatten(1))
    total = kind + recipe.color_weight * color + pixels + recipe.center_weight * center
    return total, {
        "kind": kind.item(),
        "color": color.item(),
        "pixels": pixels.item(),
        "center": center.item(),
    }


def _mirrored_batch(data: SceneArrays, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
    """Scenes, perhaps mirrored, labels with them."""
    mirror = bool(rng.integers(2))

    def turn(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[:, :, ::-1] if mirror else array)

    pixels = normalised_images(turn(data.images[chosen]))
    return {
        "pixels": pixels,
        "target": pixel_patches(pixels),
        "kinds": torch.from_numpy(turn(data.kinds[chosen]).astype(np.int64)),
        "colours": torch.from_numpy(turn(data.colours[chosen]).astype(np.int64)),
        "centers": torch.from_numpy(turn(data.centers[chosen]).astype(np.float32)),
    }


def train_encoder(
    recipe: EncoderRecipe, tower: TowerConfig, data: SceneArrays, held_out: SceneArrays, folder: Path
) -> tuple[PocketEncoder, float]:
    """Pre-train an encoder from nothing; its scores on `held_out` go to ENCODER_SCORES.

    Returns:
        The encoder in evaluation mode, and the minutes it took.
    """
    settings = recipe.optimisation
    torch.manual_seed(settings.seed)
    task = EncoderTask(PocketEncoder(tower)).to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]

    def loss_of_step(step: int):
        rng = np.random.default_rng([settings.seed, step])
        chosen = np.sort(rng.choice(len(data), settings.batch, replace=False))
        batch = _mirrored_batch(data, chosen, rng)
        noisy = batch["pixels"] + torch.randn_like(batch["pixels"]) * (recipe.noise / STD)
        return encoder_loss(task(noisy), batch, recipe)

    minutes = train(task, loss_of_step, settings, folder, title="encoder", identity=as_record(recipe))
    task.eval()
    (folder / ENCODER_SCORES).write_text(json.dumps(encoder_scores(task, held_out), indent=1))
    return task.encoder, minutes


@torch.no_grad()
def encoder_scores(task: EncoderTask, data: SceneArrays) -> dict[str, float]:
    """Accuracy of kind and colour on foreground patches, and R² of the pixels."""
    task.eval()
    count = len(data)
    pixels = normalised_images(data.images)
    heads = {k: torch.cat([task(part)[k] for part in pixels.split(50)]) for k in ("kind", "color", "pixels")}
    kinds = torch.from_numpy(data.kinds.astype(np.int64)).reshape(count, GRID * GRID)
    colours = torch.from_numpy(data.colours.astype(np.int64)).reshape(count, GRID * GRID)
    front, coloured = kinds > 0, colours != NO_COLOUR
    target = pixel_patches(pixels)
    return {
        "kind": (heads["kind"].argmax(-1)[front] == kinds[front]).float().mean().item(),
        "color": (heads["color"].argmax(-1)[coloured] == colours[coloured]).float().mean().item(),
        "pixel_r2": r2(
            *(rearrange(each, "n t (p c) -> n t p c", c=3).numpy() for each in (heads["pixels"], target))
        ),
    }


@torch.no_grad()
def encoder_features(encoder: PocketEncoder, scenes: SceneArrays, path: Path) -> np.ndarray:
    """The tokens of every scene.

    Args:
        encoder: in evaluation mode.
        scenes: the images.
        path: where they are kept; read when it exists.

    Returns:
        float16 (n, 256, F), memory-mapped.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        shape = (len(scenes), *encoder(normalised_images(scenes.images[:1])).shape[1:])
        out = new_array(temporary, np.float16, shape)
        for start in tqdm(range(0, len(scenes), _AT_ONCE), desc=f"encode {scenes.split}"):
            out[start : start + _AT_ONCE] = encoder(
                normalised_images(scenes.images[start : start + _AT_ONCE])
            ).numpy()
        out.flush()
        os.replace(temporary, path)
    mend = "Remove it, and it is made again."
    return read_npy(path, error=TrainingError, mend=mend, mapped=True)
