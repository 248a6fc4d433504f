"""What a trace says of its images' names and of hooks that somebody else put on the model."""

import logging

import numpy as np
import pytest
from PIL import Image

from emma_viz.capture import record
from emma_viz.data.labels import ImageLabel


def test_hooks_of_others_are_noted_and_ours_are_not(one, photos, study, caplog):
    plain = record(one, photos[:1], "?", layers=[0], generate=False)
    block = one.vlm.llm.backbone.layers[1]
    handle = block.mixer.register_forward_hook(lambda module, inputs, output: output * 0)
    try:
        with caplog.at_level(logging.WARNING):
            altered = record(one, photos[:1], "?", layers=[0], generate=False)
    finally:
        handle.remove()
    assert plain.notes == ()
    (note,) = altered.notes
    assert "hooks of others were on" in note
    assert "layers.1.mixer" in note
    assert note in caplog.text
    assert study.trace(study.add_trace(altered, "altered")).notes == altered.notes


def test_names_and_notes_of_files_stay_with_the_trace(one, tmp_path, study):
    paths = [tmp_path / "cat.png", tmp_path / "deep.png"]
    Image.new("RGB", (20, 20), (9, 8, 7)).save(paths[0])
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(paths[1])
    trace = record(one, paths, "?", layers=[0], generate=False)
    assert [label.name for label in trace.labels] == ["cat.png", "deep.png"]
    assert "12 of 16 bits" in trace.labels[1].notes[0]
    assert trace.select(samples=[1]).labels == trace.labels[1:]
    assert study.trace(study.add_trace(trace, "named")).labels == trace.labels
    assert record(one, np.zeros((9, 9, 3), np.uint8), "?", layers=[0], generate=False).labels == (
        ImageLabel(),
    )


@pytest.mark.parametrize("prompts", [["What?", "Why?"]])
def test_one_image_under_several_prompts_holds_the_same(one, photos, prompts):
    """What a figure relies on when it draws the maps of one image once."""
    trace = record(one, photos[0], prompts, layers=[0, 1], generate=False)
    states = trace["resid_post"]
    assert (states[:, 0] == states[:, 1]).all()
    assert len(trace.labels) == 2
