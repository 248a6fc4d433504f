"""Hooks see what the model computes, change nothing, and leave nothing behind."""

import copy

import pytest
import torch
from torch import nn

from emma_viz.capture import SITES, Recorder
from emma_viz.errors import CaptureError, SiteError

IDS = torch.tensor([[3, 20, 99, 7, 41], [11, 12, 13, 14, 15]])


class TheirBlock(nn.Module):
    """The calling convention of mamba_ssm's block: (hidden, residual), not yet summed."""

    def __init__(self):
        super().__init__()
        self.mixer = nn.Linear(4, 4)

    def forward(self, hidden, residual=None):
        residual = hidden if residual is None else hidden + residual
        return self.mixer(residual), residual


class TheirModel(nn.Module):
    """A model that emma_viz knows nothing of."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(TheirBlock() for _ in range(3))
        self.unused = nn.Linear(4, 4)

    def forward(self, hidden):
        residual = None
        for layer in self.layers:
            hidden, residual = layer(hidden, residual)
        return hidden + residual


def count_hooks(module):
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules())


def test_the_output_is_the_same_bit_by_bit_with_every_site_hooked(model):
    plain = model.vlm(None, IDS, logits="all")
    with Recorder(model.vlm, SITES) as recorder:
        hooked = model.vlm(None, IDS, logits="all")
    assert len(recorder.reports) == 3 * (len(SITES) - 1) + 1
    assert torch.equal(plain.logits, hooked.logits)
    assert torch.equal(plain.hidden, hooked.hidden)


def test_the_sites_are_what_they_say(model):
    with Recorder(model.vlm, SITES) as seen:
        output = model.vlm(None, IDS, logits="none")
    for layer in range(3):
        block = model.vlm.llm.backbone.layers[layer]
        assert torch.equal(seen["resid_post", layer], seen["mixer_out", layer] + seen["resid_pre", layer])
        with torch.no_grad():
            torch.testing.assert_close(block.norm(seen["resid_pre", layer]), seen["mixer_in", layer])
            torch.testing.assert_close(block.mixer(seen["mixer_in", layer]), seen["mixer_out", layer])
            torch.testing.assert_close(block.mixer.out_proj(seen["y", layer]), seen["mixer_out", layer])
        assert (seen["delta", layer] > 0).all()
        assert seen["B", layer].shape == seen["C", layer].shape
        assert not torch.equal(seen["B", layer], seen["C", layer])
    assert torch.equal(seen["resid_post", 0], seen["resid_pre", 1])
    assert torch.equal(seen["hook_norm_f"], output.hidden)


def test_the_sites_have_the_shapes_they_say(model):
    config = model.vlm.config.llm
    second = config.ssm == "mamba2"
    widths = dict.fromkeys(SITES, config.d_model) | {
        "conv": config.d_inner,
        "delta": config.n_heads if second else config.d_inner,
        "B": config.ngroups * config.d_state,
        "C": config.ngroups * config.d_state,
        **dict.fromkeys(("z", "scan", "y"), config.d_inner),
        **dict.fromkeys(("x", "conv_pre"), config.conv_width if second else config.d_inner),
    }
    with Recorder(model.vlm, SITES, layers=[1]) as recorder:
        model.vlm(None, IDS, logits="none")
    for target, report in zip(recorder.targets, recorder.reports, strict=True):
        assert report.shape == (2, 5, widths[target.site]), target.name


def test_only_the_tokens_asked_for_are_kept_in_the_dtype_asked_for(one):
    with Recorder(one.vlm, "resid_post", tokens=slice(1, 3), dtype=torch.float16) as some:
        one.vlm(None, IDS, logits="none")
    with Recorder(one.vlm, "resid_post") as everything:
        one.vlm(None, IDS, logits="none")
    for layer in range(3):
        kept = some["resid_post", layer]
        assert torch.equal(kept, everything["resid_post", layer][:, 1:3].half())
        # No more memory than the kept tokens take: no view into the model's own.
        assert kept.untyped_storage().nbytes() == kept.numel() * 2


def test_what_is_kept_is_a_copy():
    module = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    with Recorder(module, "0") as recorder:
        module(torch.tensor([[[-1.0, 2.0]]]))
    assert torch.equal(recorder["0"], torch.tensor([[[-1.0, 2.0]]]))


def test_hooks_are_gone_afterwards(one):
    before = count_hooks(one.vlm)
    with Recorder(one.vlm, SITES):
        assert count_hooks(one.vlm) > before
        one.vlm(None, IDS, logits="none")
    assert count_hooks(one.vlm) == before


def test_hooks_are_gone_after_an_exception_which_comes_through(one):
    def fail():
        raise ZeroDivisionError

    before = count_hooks(one.vlm)
    # The second hook never fires: the exception must not be hidden by an error about that.
    with pytest.raises(ZeroDivisionError), Recorder(one.vlm, ["resid_post", "vision"]):
        fail()
    assert count_hooks(one.vlm) == before


def test_hooks_are_gone_after_an_exception_in_a_hook(one):
    def fail(target, state):
        raise ZeroDivisionError

    before = count_hooks(one.vlm)
    with pytest.raises(ZeroDivisionError), Recorder(one.vlm, "resid_post", on_state=fail):
        one.vlm(None, IDS, logits="none")
    assert count_hooks(one.vlm) == before


def test_hooks_are_gone_when_one_of_them_cannot_be_placed(one, monkeypatch):
    def refuse(hook):
        raise ZeroDivisionError

    before = count_hooks(one.vlm)
    monkeypatch.setattr(one.vlm.llm.backbone.layers[2].hook_mixer_out, "register_forward_hook", refuse)
    with pytest.raises(ZeroDivisionError), Recorder(one.vlm, "mixer_out"):
        pass
    assert count_hooks(one.vlm) == before


def test_the_hooks_of_others_stay_and_go_on_working(one):
    theirs = []
    place = one.vlm.llm.backbone.layers[1].hook_mixer_out
    handle = place.register_forward_hook(lambda module, inputs, output: theirs.append(output))
    try:
        with Recorder(one.vlm, ["mixer_out", "resid_post"]):
            one.vlm(None, IDS, logits="none")
        one.vlm(None, IDS, logits="none")
        assert len(theirs) == 2
        assert list(place._forward_hooks) == [handle.id]
    finally:
        handle.remove()


def test_an_intervention_of_others_still_changes_the_model(one):
    place = one.vlm.llm.backbone.layers[0].hook_mixer_out
    plain = one.vlm(None, IDS, logits="none").hidden
    handle = place.register_forward_hook(lambda module, inputs, output: output * 0)
    try:
        theirs = one.vlm(None, IDS, logits="none").hidden
        with Recorder(one.vlm, "mixer_out") as recorder:
            both = one.vlm(None, IDS, logits="none").hidden
    finally:
        handle.remove()
    assert not torch.equal(plain, theirs)
    assert torch.equal(theirs, both)
    assert not recorder["mixer_out", 0].any()


def test_a_wrong_name_leaves_the_model_untouched(one):
    before = count_hooks(one.vlm)
    with pytest.raises(SiteError):
        Recorder(one.vlm, ["resid_post", "no_such_site"])
    assert count_hooks(one.vlm) == before


def test_a_hook_that_does_not_fire_is_an_error(one):
    bypassed = copy.deepcopy(one.vlm)
    # A fused kernel that never calls the place.
    bypassed.llm.backbone.layers[1].hook_resid_post.observe = lambda compute: None
    recorder = Recorder(bypassed, "resid_post")
    silent = r"1 of 3 hooks did not fire: blocks\.1\.hook_resid_post"
    with pytest.raises(CaptureError, match=silent), recorder:
        bypassed(None, IDS, logits="none")
    assert [report.fired for report in recorder.reports] == [1, 0, 1]
    assert recorder.reports[1].shape is None


def test_each_hook_reports(one):
    with Recorder(one.vlm, ["mixer_in"], layers=[2]) as recorder:
        one.vlm(None, IDS, logits="none")
        one.vlm(None, IDS[:1], logits="none")
    (report,) = recorder.reports
    assert (report.name, report.fired, report.shape, report.finite) == (
        "blocks.2.hook_mixer_in",
        2,
        (2, 5, 32),
        True,
    )
    assert [tuple(call.shape) for call in recorder.calls("blocks.2.hook_mixer_in")] == [
        (2, 5, 32),
        (1, 5, 32),
    ]
    with pytest.raises(CaptureError, match="holds 2 calls"):
        recorder["mixer_in", 2]


def test_values_that_are_not_finite_are_kept_and_reported(caplog):
    module = nn.Sequential(nn.Identity())
    with Recorder(module, "0") as recorder:
        module(torch.tensor([[[1.0, torch.inf]]]))
        module(torch.tensor([[[1.0, 2.0]]]))
    assert recorder.reports[0].finite is False
    assert recorder.calls("0")[0][0, 0, 1] == torch.inf
    assert caplog.text.count("not finite") == 1


def test_states_that_overflow_the_dtype_are_reported():
    module = nn.Sequential(nn.Identity())
    with Recorder(module, "0", dtype=torch.float16) as recorder:
        module(torch.full((1, 1, 1), 1e6))
    assert recorder.reports[0].finite is False


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        (0, lambda hidden, residual: hidden),
        (1, lambda hidden, residual: residual),
        (sum, lambda hidden, residual: hidden + residual),
    ],
)
def test_one_tensor_is_picked_of_a_block_that_returns_two(pick, expected):
    model, hidden, residual = TheirModel(), torch.randn(2, 5, 4), None
    with Recorder(model, "layers.*", pick=pick) as recorder:
        model(hidden)
    for index, layer in enumerate(model.layers):
        hidden, residual = layer(hidden, residual)
        assert torch.equal(recorder[f"layers.{index}"], expected(hidden, residual))


@pytest.mark.parametrize("pick", [2, lambda pair: None, "hidden"])
@pytest.mark.usefixtures("unchecked")
def test_a_pick_that_finds_no_tensor_is_an_error(pick):
    model = TheirModel()
    with (
        pytest.raises(CaptureError, match="a tuple of Tensor, Tensor"),
        Recorder(model, "layers.0", pick=pick),
    ):
        model(torch.randn(1, 2, 4))
    assert count_hooks(model) == 0


def test_a_module_that_is_not_called_is_an_error():
    model = TheirModel()
    with pytest.raises(CaptureError, match="unused"), Recorder(model, "unused"):
        model(torch.randn(1, 2, 4))


def test_states_recorded_in_inference_mode_can_be_trained_on(one):
    with torch.inference_mode(), Recorder(one.vlm, "resid_post", layers=[0]) as recorder:
        one.vlm(None, IDS, logits="none")
    states = recorder["resid_post", 0]
    weight = torch.zeros(32, requires_grad=True)
    (states @ weight).sum().backward()
    assert not states.requires_grad
    assert weight.grad is not None


def test_gradients_flow_past_the_hooks(one):
    table = one.vlm.llm.backbone.embedding.weight
    with Recorder(one.vlm, SITES) as recorder:
        (gradient,) = torch.autograd.grad(one.vlm(None, IDS, logits="none").hidden.sum(), table)
    (plain,) = torch.autograd.grad(one.vlm(None, IDS, logits="none").hidden.sum(), table)
    assert torch.equal(gradient, plain)
    assert not recorder["resid_post", 1].requires_grad


def test_states_can_be_handed_on_instead_of_kept(one):
    seen = []
    with Recorder(
        one.vlm, "resid_post", on_state=lambda target, state: seen.append((target.layer, state))
    ) as recorder:
        one.vlm(None, IDS, logits="none")
    assert [layer for layer, _ in seen] == [0, 1, 2]
    assert recorder.calls("blocks.0.hook_resid_post") == ()
    with Recorder(one.vlm, "resid_post") as kept:
        one.vlm(None, IDS, logits="none")
    assert all(torch.equal(state, kept["resid_post", layer]) for layer, state in seen)


def test_a_recorder_is_not_entered_twice_at_once(one):
    with Recorder(one.vlm, "resid_post") as recorder:
        one.vlm(None, IDS, logits="none")
        with pytest.raises(CaptureError, match="already in place"):
            recorder.__enter__()


def test_what_was_not_recorded_is_an_error_that_names_the_nearest(one):
    with Recorder(one.vlm, "resid_post", layers=[1]) as recorder:
        one.vlm(None, IDS, logits="none")
    with pytest.raises(SiteError, match="resid_post, 1"):
        recorder["resid_post", 2]
    with pytest.raises(SiteError, match=r"blocks\.1\.hook_resid_post"):
        recorder["blocks.2.hook_resid_post"]


def test_what_was_recorded_is_read_like_a_dictionary_and_stacked_by_pattern():
    model = TheirModel()
    with Recorder(model, ["layers.*", "layers.1.mixer"], pick=sum) as seen:
        model(torch.randn(2, 3, 4))
    assert seen.keys() == ("layers.0", "layers.1", "layers.2", "layers.1.mixer")
    assert [name for name, _ in seen.items()] == list(seen)
    assert torch.equal(seen.stack("layers.*"), torch.stack([seen[f"layers.{i}"] for i in range(3)]))
    with pytest.raises(SiteError, match=r"layers\.1\.mixer"):
        seen.stack("layers.*.mixers")


def test_what_differs_in_shape_is_not_stacked():
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(4, 5)})
    with Recorder(model, ["a", "b"]) as seen:
        model["b"](model["a"](torch.ones(1, 2, 3)))
    with pytest.raises(CaptureError, match="several shapes"):
        seen.stack("*")
