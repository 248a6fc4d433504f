"""Settings and fixtures of the whole suite."""

import gc
import logging
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from tests.checked import checked
from tests.unchecked import types_unchecked

# What the import hook of `--jaxtyping-packages` puts on each function that is imported from here on.
jaxtyping.jaxtyped = checked
# No test asks the network for anything; without this, each look at the hub tries again for 23 seconds.
os.environ["HF_HUB_OFFLINE"] = "1"
# What a slow or busy machine makes of a property test is nobody's fault.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("unhurried")
# Tests run many small operations; more threads than that only spin against one another.
torch.set_num_threads(1)
# A shell ignores Ctrl-C in what it starts in the background, and what that starts inherits it; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Which test is the first to compile a kernel, and says so, is chance.
logging.getLogger("emma_viz.kernels").setLevel(logging.ERROR)


def pytest_collection_finish() -> None:
    """Look through what has been imported no more: the library collects after every model that it lets go."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Pair:
    """Two tiny models of random weights on disk, each with a ridge lens, and the encoder that they share."""

    cobra: Path
    emma: Path
    vision: Path
    lens_of_emma: Path

    @property
    def models(self) -> list[str]:
        """Their run directories, as a user would name them."""
        return [str(self.cobra), str(self.emma)]


@pytest.fixture
def unchecked():
    """No type checks, as in a user's program."""
    with types_unchecked():
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> list[Path]:
    """Two photographs as files, neither of them square."""
    import skimage

    data = Path(skimage.__file__).parent / "data"
    folder = tmp_path_factory.mktemp("photos")
    for name in ("coffee", "chelsea"):
        Image.open(data / f"{name}.png").reduce(4).save(folder / f"{name}.png")
    return sorted(folder.iterdir(), reverse=True)


@pytest.fixture(scope="session")
def pair(tmp_path_factory) -> Pair:
    """A Cobra and an EMMA that `load_model` reads, untrained."""
    from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
    from emma_viz.data import train_tokenizer
    from emma_viz.lens import save_lens
    from emma_viz.models import VLM
    from emma_viz.models.presets import PRESETS
    from emma_viz.session import fit_ridge

    folder = tmp_path_factory.mktemp("pair")
    tokenizer = train_tokenizer(["Describe the image in detail. A red cup on a table."] * 4, vocab_size=300)
    images = np.random.default_rng(0).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8)
    vision = folder / "encoder.safetensors"
    for seed, (name, preset) in enumerate((("cobra", "tiny-cobra"), ("emma", "tiny-emma-v1"))):
        torch.manual_seed(seed)
        config = PRESETS[preset]()
        config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
        vlm = VLM(config)
        if not vision.exists():
            save_vision_encoder(vision, vlm.vision)
        save_run_directory(folder / name, config, vlm.state_dict(), tokenizer=tokenizer)
        model = load_model(folder / name, vision_source=str(vision))
        lens = fit_ridge(model, list(images[:8]), heldout=list(images[8:]), fitted_on="8 images of noise")
        save_lens(lens, folder / name / "ridge.lens")
    return Pair(folder / "cobra", folder / "emma", vision, folder / "emma" / "ridge.lens")
