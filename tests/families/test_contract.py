"""What every family must do: the same test for all, on a tiny checkpoint in the layout of its released code."""

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
from emma_viz.models.peers.table import PEERS
from emma_viz.session.catalogue import verified
from tests.families import contract, references
from tests.families.conftest import MEMBERS

PARITY = 1e-4
"""Of the logits' norm."""


def test_every_family_has_a_member_here():
    assert {re.sub("^(emma|llava)-(v1|v2|pocket)$", r"\1", name) for name in MEMBERS} == set(OUR_FAMILIES)


def test_the_file_is_known_by_headers_alone(member):
    found = inspect(member.folder)
    assert found.problems == ()
    assert found.fingerprint == member.loaded.info.fingerprint
    assert member.loaded.info.family == family_named(member.loaded.info.family).name


def test_parity_with_an_independent_implementation(member):
    error, answers = references.relative_error(member)
    assert error < PARITY
    assert answers > 2, "a constant answer would compare nothing"


def test_the_table_of_models_has_the_parity_of_every_family():
    """`python -m tests.families.measure` writes it; the errors of another machine are of the same size."""
    kept = verified()
    assert set(kept) == {*OUR_FAMILIES, *PEERS}
    assert all(0 <= each.error < PARITY for each in kept.values())
    assert {kept[name].against for name in OUR_FAMILIES} <= set(references.AGAINST.values())


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
    for layer in range(model.info.n_layer):
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
    contract.geometry_there_and_back(member.loaded, pictures)
    assert {member.loaded.transform.geometry(each).grid for each in pictures} == {member.loaded.config.grid}


@pytest.mark.slow
def test_from_lens_to_figure_and_page(member, tmp_path):
    draw = np.random.default_rng(0).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8)
    contract.from_lens_to_figure_and_page(member.loaded, member.loaded, list(draw), tmp_path)


@pytest.mark.slow
def test_quick_probes(member, tmp_path):
    contract.quick_probes(member.loaded, tmp_path, ours=True)
