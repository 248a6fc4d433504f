"""Memory of a capture does not grow with its images."""

import pytest

from benchmarks.capture_memory import draw_images, peak


@pytest.mark.slow
@pytest.mark.parametrize("store", ["states", "maps"])
def test_ten_times_the_images_take_no_more_memory(pair, tmp_path, store):
    found = []
    for count in (16, 160):
        draw_images(tmp_path / str(count), count)
        found.append(peak(tmp_path / str(count), str(pair.cobra), store, str(pair.vision)))
    assert found[1] < found[0] + 20
