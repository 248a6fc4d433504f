"""Quality gathered in batches is the quality of all images together."""

import numpy as np
import pytest

from emma_viz.errors import LensError
from emma_viz.lens.evaluation import QualityGatherer
from emma_viz.metrics.quality import psnr, r2, ssim


def test_batches_add_up_to_the_definitions():
    rng = np.random.default_rng(0)
    true = rng.random((5, 9, 4, 4, 3))
    decoded = {layer: true + noise * rng.normal(size=true.shape) for layer, noise in ((0, 0.1), (3, 0.4))}
    gatherer = QualityGatherer((0, 3), (3, 3))
    for part in (slice(0, 2), slice(2, 5)):
        gatherer.add_true(true[part])
        for layer in (0, 3):
            gatherer.add_layer(layer, decoded[layer][part], true[part])
    quality = gatherer.result()
    assert gatherer.n_images == 5

    def image(patches):
        rows = [np.concatenate(list(patches[3 * row : 3 * row + 3]), axis=1) for row in range(3)]
        return np.concatenate(rows, axis=0)

    for record in quality:
        assert record.r2 == pytest.approx(r2(decoded[record.layer], true))
        pairs = [(image(a), image(b)) for a, b in zip(decoded[record.layer], true, strict=True)]
        assert record.psnr == pytest.approx(np.mean([psnr(*pair) for pair in pairs]))
        assert record.ssim == pytest.approx(np.mean([ssim(*pair) for pair in pairs]))
    assert quality[0].r2 > quality[1].r2


def test_nothing_cannot_be_measured():
    with pytest.raises(LensError, match="held-out images"):
        QualityGatherer((0,), (3, 3)).result()
