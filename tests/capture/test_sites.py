"""Names become modules, and wrong names become errors that name the nearest."""

import pytest
from torch import nn

from emma_viz.capture import SITES, resolve_sites
from emma_viz.capture.sites import choose
from emma_viz.errors import SiteError


def paths(model, *names, layers="all"):
    return [target.path for target in resolve_sites(model.vlm, names, layers)]


@pytest.mark.parametrize("site", SITES)
def test_every_site_is_a_module_of_the_model(model, site):
    modules = dict(model.vlm.named_modules())
    found = resolve_sites(model.vlm, [site])
    assert len(found) == (3 if SITES[site].layered else 1)
    assert all(target.path in modules and target.site == site for target in found)


def test_a_site_alone_means_the_layers_asked_for(one):
    assert paths(one, "resid_post", layers=[2, 0]) == [
        "llm.backbone.layers.2.hook_resid_post",
        "llm.backbone.layers.0.hook_resid_post",
    ]


def test_mixer_sites_lie_in_the_mixer(one):
    assert paths(one, "delta", layers=[1]) == ["llm.backbone.layers.1.mixer.hook_delta"]


def test_the_embedding_is_what_enters_block_0(one):
    assert paths(one, "resid_post", layers=[-1]) == ["llm.backbone.layers.0.hook_resid_pre"]


@pytest.mark.parametrize("name", ["blocks.1.hook_y", "blocks.1.mixer.hook_y"])
def test_long_forms_fix_the_layer(one, name):
    assert paths(one, name, layers=[0]) == ["llm.backbone.layers.1.mixer.hook_y"]


def test_a_long_form_with_a_star_leaves_the_layer_open(one):
    assert paths(one, "blocks.*.hook_mixer_in", layers=[0, 2]) == paths(one, "mixer_in", layers=[0, 2])


def test_a_star_in_a_module_path_is_one_part_of_it(one):
    assert paths(one, "llm.backbone.layers.*.mixer") == [f"llm.backbone.layers.{i}.mixer" for i in range(3)]
    assert paths(one, "llm.*.norm_f") == ["llm.backbone.norm_f"]


def test_sites_resolve_in_a_language_model_alone(one):
    assert [target.path for target in resolve_sites(one.vlm.llm, ["norm_f"])] == ["backbone.hook_norm_f"]


def test_the_last_norm_goes_by_transformer_lens_name_too(one):
    assert paths(one, "ln_final.hook_normalized") == paths(one, "norm_f")
    assert choose("ln_final.hook_normalized", "all", 3) == (("norm_f",), (2,))
    theirs = nn.ModuleDict({"ln_final": nn.ModuleDict({"hook_normalized": nn.Identity()})})
    assert [target.path for target in resolve_sites(theirs, ["ln_final.hook_normalized"])] == [
        "ln_final.hook_normalized"
    ]


def test_names_asked_for_twice_are_hooked_once(one):
    assert len(resolve_sites(one.vlm, ["resid_post", "blocks.1.hook_resid_post"])) == 3


def test_tied_modules_keep_all_their_paths():
    shared = nn.Linear(2, 2)
    module = nn.ModuleDict({"first": shared, "second": shared})
    assert [target.path for target in resolve_sites(module, ["*"])] == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resid_pots", "resid_post"),
        ("blocks.1.hook_dleta", "delta"),
        ("llm.backbone.layers.*.mixr", "llm.backbone.layers.*.mixer"),
        ("hook_residpost", "resid_post"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest(one, name, nearest):
    with pytest.raises(SiteError, match="Did you mean") as caught:
        resolve_sites(one.vlm, [name])
    assert f"'{nearest}'" in str(caught.value)


def test_a_site_of_a_foreign_model_is_an_error_that_offers_module_paths():
    with pytest.raises(SiteError, match="Give module paths instead"):
        resolve_sites(nn.Sequential(nn.Linear(2, 2)), ["resid_post"])


@pytest.mark.parametrize("layer", [3, -2, True, 1.0, "1"])
@pytest.mark.usefixtures("unchecked")
def test_a_layer_that_does_not_exist_is_an_error_with_the_range(one, layer):
    with pytest.raises(SiteError, match="layers 0 to 2"):
        resolve_sites(one.vlm, ["resid_post"], [layer])


@pytest.mark.parametrize(
    ("names", "layers", "message"),
    [
        (["mixer_out"], [-1], "exists for 'resid_post' alone"),
        (["resid_post"], [], "no layer was given"),
        (["resid_post"], [1, 1], "once"),
        ([], "all", "No hook site"),
        (["blocks.norm_f"], "all", "no hook site"),
        (["blocks.0.hook_norm_f"], "all", "no hook site"),
    ],
)
def test_requests_that_mean_nothing_are_refused(one, names, layers, message):
    with pytest.raises(SiteError, match=message):
        resolve_sites(one.vlm, names, layers)


@pytest.mark.parametrize(
    ("names", "layers", "expected"),
    [
        ("resid_post", "all", (("resid_post",), (0, 1, 2, 3))),
        (["hook_delta", "B"], [2, 0], (("delta", "B"), (2, 0))),
        (["blocks.2.hook_y", "blocks.0.hook_y"], "all", (("y",), (2, 0))),
        (["resid_post", "mixer_out"], [-1, 1], (("resid_post", "mixer_out"), (-1, 1))),
        (["norm_f"], "all", (("norm_f",), (3,))),
        (["norm_f", "mixer_out"], [0, 1], (("norm_f", "mixer_out"), (0, 1))),
    ],
)
def test_one_recording_has_the_same_layers_at_every_site(names, layers, expected):
    assert choose(names, layers, 4) == expected


def test_sites_with_different_layers_need_two_recordings():
    with pytest.raises(SiteError, match="record once for each"):
        choose(["blocks.0.hook_y", "blocks.1.hook_delta"], "all", 4)
