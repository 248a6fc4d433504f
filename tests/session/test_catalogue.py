"""What can be named, and what an inspection adds to the file's own headers."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from emma_viz.checkpoints.run_config import vlm_config
from emma_viz.checkpoints.sources import BUNDLED
from emma_viz.lens.files import load_lens
from emma_viz.models.families.emma import emma_v1_3b, emma_v2_3b
from emma_viz.models.families.table import OUR_FAMILIES
from emma_viz.models.peers.table import PEERS
from emma_viz.session import inspection_of
from emma_viz.session.catalogue import (
    families_table,
    head_parts,
    head_sizes,
    models_table,
    peers_table,
    unsupported_table,
)


@pytest.mark.parametrize(
    ("name", "mixing"),
    [
        ("cobra-3b", "mamba1, 64 × 2560"),
        ("emma-v2-3b", "mamba2, 64 × 2560"),
        ("mobilevlm-v2-1.7b", "attention, 24 × 2048"),
        ("mmmamba-linear-2.7b", "mamba2, 32 × 2048"),
        ("mmmamba-hybrid-2.7b", "attention + mamba2, 32 × 2048"),
    ],
)
def test_the_table_says_what_mixes_tokens(name, mixing):
    (line,) = (line for line in models_table().splitlines() if line.split()[:1] == [name])
    assert mixing == line.removeprefix(name).strip()[: len(mixing)]


@pytest.mark.parametrize("preset", [emma_v1_3b, emma_v2_3b])
def test_decoder_parts_land_on_table_7(preset):
    sizes = head_sizes(replace(preset(), lens_form="paper"))
    parts = {name: parameters / 1e6 for name, parameters, _ in head_parts(sizes)}
    assert parts["feature fusion (MFF)"] == pytest.approx(266, abs=0.5)
    assert parts["cross-attention"] == pytest.approx(105, abs=0.5)
    assert parts["pixel decoder"] == pytest.approx(174, abs=1.1)


@pytest.mark.parametrize("model_id", ["EMMA+3b", "emma-v2"])
def test_an_official_emma_is_described_in_the_released_form(model_id):
    """Of its `dec_block` 104.9M are cross-attention, and `enc2dec` has as many (all but the norms of the taps)."""
    official = {
        "model_id": model_id, "arch_specifier": "no-align+fused-gelu-mlp", "llm_backbone_id": "mamba-2.8b-zephyr",
        "vision_backbone_id": "dinosiglip-vit-so-384px",
    }  # fmt: skip
    config = vlm_config({"model": official}, where="x")
    assert config.lens_form == "released"
    parts = {(name, whole): count / 1e6 for name, count, whole in head_parts(head_sizes(config))}
    assert parts["feature fusion (MFF)", None] == pytest.approx(104.9, abs=0.1)
    assert parts["pixel decoder", None] == pytest.approx(265.8 + 2.95, abs=0.1)
    assert parts["cross-attention", "pixel decoder"] == pytest.approx(104.9, abs=0.1)


def test_an_inspection_names_the_form(pair):
    assert "trained with the paper fusion and decoder" in inspection_of(pair.emma).architecture
    assert "fusion" not in inspection_of(pair.cobra).architecture


def test_a_cobra_lacks_no_decoder(pair):
    assert not any("decoder" in part.name for part in inspection_of(pair.cobra).components)


def test_an_emma_without_its_decoder_says_so(pair):
    inspection = inspection_of(pair.emma)
    assert any("pixel decoder" in sentence for sentence in inspection.missing)
    assert {part.name for part in inspection.components} >= {"feature fusion (MFF)", "pixel decoder"}


def test_bundled_emma_has_its_decoder():
    inspection = inspection_of("emma-v1-pocket")
    assert not any("pixel decoder" in sentence for sentence in inspection.missing)
    assert any("native lens" in sentence for sentence in inspection.lenses)


@pytest.mark.parametrize("name", ["emma-v1-pocket", "emma-v2-pocket", "emma-v1-pocket-nomff"])
def test_the_decoder_is_counted_in_its_own_file(name):
    head = load_lens(BUNDLED / name / "native.lens").head
    found = {part.name: part.parameters for part in inspection_of(name).components}
    assert found["pixel decoder"] == sum(each.numel() for each in head.decoder.parameters())
    fusion = sum(each.numel() for each in head.fusion.parameters())
    assert found.get("feature fusion (MFF)", 0) == fusion
    assert (fusion == 0) == name.endswith("nomff")


def test_a_lens_of_a_projector_alone_is_not_said_to_be_anothers(pair, projector, tmp_path):
    shutil.copytree(projector, tmp_path / "run")
    shutil.copy(pair.cobra / "ridge.lens", tmp_path / "run" / "ridge.lens")
    (said,) = inspection_of(tmp_path / "run").lenses
    assert "cannot be told without the language model" in said
    (said,) = inspection_of(pair.cobra, lenses=[pair.lens_of_emma]).lenses[1:]
    assert "belongs to another model" in said


def test_columns_of_the_table_of_models_line_up():
    lines = models_table().splitlines()
    start = lines[0].index("language model")
    assert all(
        line[start - 1] == " " and line[start:].startswith(("mamba", "attention")) for line in lines[1:]
    )


def test_the_tables_say_what_is_missing_of_each_family():
    for table, families in ((families_table(), OUR_FAMILIES), (peers_table(), PEERS)):
        rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
        assert rows["family"].endswith("| what is missing |")
        for name, family in families.items():
            assert rows[name].endswith(f" | {family.missing} |")
    assert "not in the paper, and chosen" in families_table()
    assert "pan and scan" in peers_table()


def test_the_page_of_models_has_the_families_and_the_peers_that_are_tested():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert families_table() in page, "make it again: emma-viz models --all"
    assert peers_table() in page, "make it again: emma-viz models --all"
    assert unsupported_table() in page, "make it again: emma-viz models --all"
