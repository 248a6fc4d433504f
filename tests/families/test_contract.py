"""What every family must do: one suite for all, each on a tiny checkpoint in the layout of its released code.

Ours are written as their released code writes them, those that transformers' classes run as `save_pretrained` does.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from emma_viz.capture import record
from emma_viz.capture.hooks import foreign_hooks
from emma_viz.checkpoints import LoadedModel, inspect, load_model
from emma_viz.checkpoints.peers import PeerModel
from emma_viz.errors import SiteError
from emma_viz.models.attention_sites import ALL_SITES, ATTENTION_SITES, sites_of
from emma_viz.models.families.table import OUR_FAMILIES, family_named
from emma_viz.models.peers.table import PEERS
from emma_viz.session.catalogue import verified
from tests.capture import transformer_peers
from tests.families import contract, references
from tests.families.conftest import MEMBERS, Member, make_member
from tests.peers.checkpoints import PROCESSORS, family_of, write

PARITY = 1e-4
"""Of the norm of what is compared."""


@dataclass(frozen=True)
class Subject:
    """One family's tiny checkpoint, on disk and loaded."""

    folder: Path
    model: LoadedModel
    member: Member | None
    """With what its file holds, by component; None for those that transformers runs."""

    @property
    def network(self) -> nn.Module:
        return self.model.peer.network if isinstance(self.model, PeerModel) else self.model.vlm

    @property
    def sites(self) -> tuple[str, ...]:
        """All that a user may name."""
        return tuple(ATTENTION_SITES if self.member is None else sites_of(self.model.config.llm))


@pytest.fixture(
    scope="module",
    # transformers' classes take seconds to import
    params=[*MEMBERS, *(pytest.param(name, marks=pytest.mark.slow) for name in PROCESSORS)],
)
def subject(request, tmp_path_factory):
    """Every family, ours and transformers'; llava is in both, and theirs is the folder of `save_pretrained`."""
    name, folder = request.param, tmp_path_factory.mktemp("subject") / f"tiny-{request.param}"
    if name in MEMBERS:
        folder.mkdir()
        member = make_member(name, folder)
        return Subject(folder=folder, model=member.loaded, member=member)
    write(name, folder)
    return Subject(folder=folder, model=load_model(folder), member=None)


def test_every_family_has_a_member_here():
    assert not set(MEMBERS) & set(PROCESSORS)
    assert {re.sub("^(cobra|emma|llava)-(ldp|v1|v2|pocket)$", r"\1", name) for name in MEMBERS} == set(
        OUR_FAMILIES
    )


@pytest.mark.slow  # transformers' classes take seconds to import
def test_every_model_type_that_is_listed_has_a_folder_here():
    kinds = {transformer_peers.PEERS[family_of(name)][0]().model_type for name in PROCESSORS}
    assert kinds == {kind for peer in PEERS.values() for kind in peer.model_types}


def test_the_checkpoint_is_known_by_headers_alone(subject):
    found = inspect(subject.folder)
    assert found.problems == ()
    assert found.fingerprint == subject.model.info.fingerprint
    known = PEERS if subject.member is None else OUR_FAMILIES
    assert subject.model.info.family in known


def test_parity_with_an_independent_implementation(subject):
    if subject.member is None:
        assert references.error_of_states(subject.model, NOISE[0]) < PARITY
        return
    error, answers = references.relative_error(subject.member)
    assert error < PARITY
    assert answers > 2, "a constant answer would compare nothing"


def test_the_table_of_models_has_the_parity_of_every_family():
    """`python -m tests.families.measure` writes it; the errors of another machine are of the same size."""
    kept = verified()
    assert set(kept) == {*OUR_FAMILIES, *PEERS}
    assert all(0 <= each.error < PARITY for each in kept.values())
    assert {kept[name].against for name in OUR_FAMILIES} <= set(references.AGAINST.values())


def test_every_site_is_recorded_and_the_hooks_leave_nothing(subject):
    model, sites = subject.model, subject.sites
    if subject.member is not None:
        assert family_named(model.info.family).sites is sites_of(model.config.llm)
    hooks = foreign_hooks(subject.network)
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    asked = ["Why?", "Which colour is it?"]
    trace = record(model, NOISE[:1], asked, sites=sites, max_new_tokens=3)
    again = record(model, NOISE[:1], asked, max_new_tokens=3)
    assert trace.answer_ids == again.answer_ids
    assert foreign_hooks(subject.network) == hooks
    assert all(torch.equal(value, before[name]) for name, value in subject.network.state_dict().items())
    for layer in range(model.info.n_layer):
        parts = [trace[name, layer] for name in ("mixer_out", "attn_out", "mlp_out") if name in sites]
        assert parts
        total = trace["resid_pre", layer] + sum(parts)
        torch.testing.assert_close(trace["resid_post", layer], total, rtol=1e-4, atol=1e-4)


def test_a_site_that_a_family_lacks_is_refused_with_a_sentence(subject):
    lacking = next(name for name in ALL_SITES if name not in subject.sites)
    with pytest.raises(SiteError, match="is a site of a"):
        record(subject.model, NOISE[:1], "Why?", sites=[lacking])


def test_geometry_there_and_back(subject):
    for image in NOISE:
        place = contract.geometry_there_and_back(subject.model, image)
        if subject.member is not None:
            assert place.grid == subject.model.config.grid


@pytest.mark.slow
def test_from_lens_to_figure_and_page(subject, tmp_path):
    draw, sizes = np.random.default_rng(0), [(48, 96), (64, 64), (96, 48)]
    noise = [draw.integers(0, 256, (*sizes[n % 3], 3), dtype=np.uint8) for n in range(12)]
    named = subject.folder if subject.member is None else subject.model
    contract.from_lens_to_figure_and_page(subject.model, named, noise, tmp_path)


@pytest.mark.slow
def test_quick_probes(subject, tmp_path):
    contract.quick_probes(subject.model, tmp_path, ours=subject.member is not None)


NOISE = [
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
    for size in [(40, 90), (70, 32), (48, 48)]
]
"""Wide, high and square."""
