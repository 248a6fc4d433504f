"""What every family must do: the same test for all, on a tiny checkpoint in the layout of its released code."""

import json
import re

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.capture.hooks import foreign_hooks
from emma_viz.checkpoints import inspect
from emma_viz.errors import SiteError
from emma_viz.evidence.mixers.frozen import decompose
from emma_viz.models.attention_sites import ALL_SITES, sites_of
from emma_viz.models.families.table import OUR_FAMILIES, family_named
from tests.families import references
from tests.families.conftest import MEMBERS


def test_every_family_has_a_member_here():
    assert {re.sub("^(emma|llava)-(v1|v2|pocket)$", r"\1", name) for name in MEMBERS} == set(OUR_FAMILIES)


def test_the_file_is_known_by_headers_alone(member):
    found = inspect(member.folder)
    assert found.problems == ()
    assert found.fingerprint == member.loaded.info.fingerprint
    assert member.loaded.info.family == family_named(member.loaded.info.family).name


@torch.no_grad()
def test_parity_with_an_independent_implementation(member):
    vlm = member.loaded.vlm
    features, ids = torch.randn(2, 16, vlm.config.vision.width), torch.randint(258, (2, 5))
    told = vlm.instruct(["What is this?", "Where is the cup, and why"])
    ours = vlm(None, ids, features=features, instruction=told, logits="all").logits
    theirs = references.logits(member, features, ids, told)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    assert ours.argmax(-1).unique().numel() > 2, "a constant answer would compare nothing"


def test_every_site_is_recorded_and_the_hooks_leave_nothing(member, pictures):
    model = member.loaded
    sites = sites_of(model.config.llm)
    assert family_named(model.info.family).sites is sites
    before = {name: value.clone() for name, value in model.vlm.state_dict().items()}
    trace = record(model, pictures, ["Why?", "Which colour is it?"], sites=tuple(sites), max_new_tokens=3)
    again = record(model, pictures, ["Why?", "Which colour is it?"], max_new_tokens=3)
    assert trace.answer_ids == again.answer_ids
    assert not foreign_hooks(model.vlm)
    assert all(torch.equal(value, before[name]) for name, value in model.vlm.state_dict().items())
    for layer in range(3):
        parts = [trace[name, layer] for name in ("mixer_out", "attn_out", "mlp_out") if name in sites]
        total = trace["resid_pre", layer] + sum(parts)
        torch.testing.assert_close(trace["resid_post", layer], total, rtol=1e-4, atol=1e-4)


def test_a_site_that_a_family_lacks_is_refused_with_a_sentence(member, pictures):
    lacking = next(name for name in ALL_SITES if name not in sites_of(member.loaded.config.llm))
    with pytest.raises(SiteError, match="is a site of a"):
        record(member.loaded, pictures[:1], "Why?", sites=[lacking])
    if member.loaded.config.llm.ssm == "attention":
        with pytest.raises(SiteError, match="attention transformer has none"):
            decompose(member.loaded, pictures[0], "Why?", word=[1])


def test_geometry_there_and_back(member, pictures):
    for image in pictures:
        place = member.loaded.transform.geometry(image)
        assert place.grid == member.loaded.config.grid
        boxes = place.token_boxes()
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert place.tokens_at(centres).tolist() == list(range(place.n_tokens))


@pytest.mark.slow
def test_from_lens_to_figure_and_page(member, pictures, tmp_path):
    from emma_viz.lens import save_lens
    from emma_viz.session import compare, figure, fit_ridge
    from emma_viz.session.payload import payload

    draw = np.random.default_rng(0).integers(0, 256, (10, 40, 50, 3), dtype=np.uint8)
    lens = fit_ridge(member.loaded, list(draw[:7]), heldout=list(draw[7:]), fitted_on="7 images of noise",
                     layers=[0, 2])  # fmt: skip
    save_lens(lens, tmp_path / "ridge.lens")
    comparison = compare(pictures[:1], [member.loaded], lenses=[tmp_path / "ridge.lens"])
    (maps,) = comparison.maps()
    figure(maps).savefig(tmp_path / "figure.png", dpi=40)
    sent = json.loads(json.dumps(payload(comparison), allow_nan=False))
    assert (sent["models"][0]["grid"], sent["models"][0]["n_layer"]) == (
        list(member.loaded.config.grid),
        3,
    )
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.slow
def test_quick_probes(member, tmp_path):
    """All that its kind of model has, on a few scenes."""
    from probes.content.geometry import GeometryProbe
    from probes.content.retention import Retention
    from probes.content.sinks import Sinks
    from probes.examination import Plan, able, examine
    from probes.parity import checks
    from probes.subjects import Scenes

    scenes, mamba = Scenes(4), member.loaded.config.llm.ssm != "attention"
    kept, said = able((Retention(), GeometryProbe(), Sinks()), scenes, mixers=mamba)
    assert len(kept) == (3 if mamba else 2)
    assert mamba or said[0].endswith("an attention transformer has none.")
    found = examine(member.loaded, Plan(subjects=scenes, probes=kept, folder=tmp_path, quick=True))
    assert {gathered.images for _, gathered in found.values()} == {4}
    assert all(check.passed for check in checks(member.loaded, scenes.take(0)))
