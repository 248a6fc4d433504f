"""The cross-scan before the projector (CSM), against explicit loops over the grid."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
from emma_viz.data import train_tokenizer
from emma_viz.errors import InputError
from emma_viz.models import PRESETS, VLM, Projector, ProjectorConfig
from emma_viz.models.cross_scan import CrossScan, DirectedScan, merge_orders, scan_orders

WIDTH, GRID, TOKENS = 6, (2, 3), 6


def scan_module(*, started: bool = True) -> CrossScan:
    module = CrossScan(WIDTH, GRID, d_state=3, backend="torch")
    if started:  # a fresh one changes nothing
        torch.nn.init.normal_(module.out_proj.weight)
    return module


def with_scan(name: str = "tiny-emma-v1", **projector):
    config = PRESETS[name]()
    return replace(config, projector=replace(config.projector, cross_scan=True, scan_states=4, **projector))


def test_the_four_orders():
    tokens = torch.arange(6.0).reshape(1, 6, 1)
    orders = [order.flatten().int().tolist() for order in scan_orders(tokens, GRID)]
    assert orders == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]


def test_merging_puts_each_token_back_in_its_place():
    tokens = torch.randn(2, 6, 4)
    torch.testing.assert_close(merge_orders(list(scan_orders(tokens, GRID)), GRID), 4 * tokens)


@torch.no_grad()
def test_a_directed_scan_against_the_recurrence():
    scan, x = DirectedScan(4, rank=2, d_state=3, backend="torch"), torch.randn(1, 5, 4)
    out, state = [], torch.zeros(4, 3)
    for u in x[0]:
        dt, B, C = scan.x_proj(u).split([2, 3, 3])
        delta = functional.softplus(scan.dt_proj(dt))
        state = torch.exp(-delta[:, None] * scan.A_log.exp()) * state + (delta * u)[:, None] * B[None]
        out.append(state @ C + scan.D * u)
    torch.testing.assert_close(scan(x)[0], torch.stack(out), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_block_against_explicit_visits():
    """Every token's visit in every order by hand: where it goes, and where its result comes back to."""
    module, features = scan_module(), torch.randn(1, TOKENS, WIDTH)
    inner, gate = module.in_proj(module.norm(features)).chunk(2, dim=-1)
    plane = torch.zeros(1, 2 * WIDTH, *GRID)
    for token in range(TOKENS):
        plane[0, :, token // 3, token % 3] = inner[0, token]
    plane = functional.silu(module.conv2d(plane))
    total = torch.zeros(TOKENS, 2 * WIDTH)
    rows, columns = range(GRID[0]), range(GRID[1])
    by_row = [(r, c) for r in rows for c in columns]
    by_column = [(r, c) for c in columns for r in rows]
    for scan, places in zip(module.scans, (by_row, by_column, by_row[::-1], by_column[::-1]), strict=True):
        sequence = torch.stack([plane[0, :, r, c] for r, c in places])
        for (r, c), result in zip(places, scan(sequence[None])[0], strict=True):
            total[3 * r + c] += result
    expected = features + module.out_proj(module.out_norm(total) * functional.silu(gate))
    torch.testing.assert_close(module(features), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_every_token_knows_every_other():
    module, features = scan_module(), torch.randn(1, TOKENS, WIDTH)
    out = module(features)
    for token in range(TOKENS):
        changed = features.clone()
        changed[:, token] += torch.randn(WIDTH)
        moved = (module(changed) - out).abs().amax(dim=-1)[0]
        assert (moved > 1e-6).all(), f"a change of token {token} reaches {moved}"


@torch.no_grad()
def test_a_fresh_one_passes_the_features_on():
    features = torch.randn(2, TOKENS, WIDTH)
    assert torch.equal(scan_module(started=False)(features), features)


def test_it_trains():
    module = scan_module()
    module(torch.randn(2, TOKENS, WIDTH)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    fresh = scan_module(started=False)
    fresh(torch.randn(2, TOKENS, WIDTH)).square().sum().backward()
    assert fresh.out_proj.weight.grad.abs().sum() > 0, "it can leave its start"


def test_under_one_seed_the_rest_of_the_model_is_the_same(pixels):
    torch.manual_seed(5)
    plain = VLM(PRESETS["tiny-emma-v1"]())
    torch.manual_seed(5)
    scanned = VLM(with_scan())
    ours, theirs = scanned.state_dict(), plain.state_dict()
    added = ours.keys() - theirs.keys()
    assert added
    assert all(name.startswith("projector.scan.") for name in added)
    assert not theirs.keys() - ours.keys()
    for name, values in theirs.items():
        assert torch.equal(ours[name], values), name
    ids = torch.randint(60, (3, 4))
    with torch.no_grad():
        assert torch.equal(scanned(pixels, ids).logits, plain(pixels, ids).logits), "as they start"
        torch.nn.init.normal_(scanned.projector.scan.out_proj.weight)
        assert not torch.allclose(scanned(pixels, ids).logits, plain(pixels, ids).logits, atol=1e-4)
        assert scanned.embed_image(pixels).shape == plain.embed_image(pixels).shape


def test_without_it_a_projector_has_the_released_keys_alone():
    projector = Projector(ProjectorConfig(), features=8, width=4, grid=(2, 2))
    assert not any("scan" in name for name in projector.state_dict())


@pytest.mark.parametrize("kind", ["linear", "fused-ldpnet"])
def test_it_stands_before_any_projector(kind):
    config = ProjectorConfig(kind=kind, pooled_grid=(2, 2), cross_scan=True, scan_states=3)
    projector = Projector(config, features=WIDTH, width=4, grid=(4, 4), backend="torch")
    torch.nn.init.normal_(projector.scan.out_proj.weight)
    features = torch.randn(1, 16, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(projector(features), projector.projector(projector.scan(features)))


def test_it_survives_its_run_directory(tmp_path):
    tokenizer = train_tokenizer(["a cup on a table"] * 4, vocab_size=258)
    config = with_scan(positions=True)
    config = replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size))
    vlm = VLM(config)
    torch.nn.init.normal_(vlm.projector.scan.out_proj.weight)
    save_run_directory(tmp_path / "run", config, vlm.state_dict(), tokenizer=tokenizer)
    save_vision_encoder(tmp_path / "encoder.safetensors", vlm.vision)
    model = load_model(tmp_path / "run", vision_source=str(tmp_path / "encoder.safetensors"))
    assert model.vlm.config.projector == config.projector
    features = torch.randn(1, 16, config.vision.width)
    with torch.no_grad():
        torch.testing.assert_close(model.vlm.projector(features), vlm.projector(features))


def test_full_size_and_bounds():
    with torch.device("meta"):
        module = CrossScan(2176, (27, 27))
    scan = 4352 * (136 + 2 * 16) + (136 + 1) * 4352 + 4352 * 16 + 4352
    expected = 2176 * 8704 + 4352 * (9 + 1) + 4 * scan + 2 * 2176 + 2 * 4352 + 4352 * 2176
    assert sum(parameter.numel() for parameter in module.parameters()) == expected == 34_071_808
    with pytest.raises(InputError, match="scan_states"):
        ProjectorConfig(scan_states=0)
