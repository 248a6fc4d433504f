"""What earlier checkouts wrote down of their recipes, read by this one."""

import json
from pathlib import Path

import pytest

from emma_viz.checkpoints import BUNDLED
from training.photos.recipe import photo_recipe
from training.pocket.bundle_reading import open_bundle, shared_settings
from training.pocket.recipes import pocket
from training.results.measured_files import read_measured

KEPT = sorted(Path(__file__).resolve().parents[3].glob("docs/measured/seed-*.npz"))


def shared(recipe) -> dict:
    """What config.json would say of a recipe, as it is compared."""
    return shared_settings(json.loads(json.dumps(recipe.record())))


@pytest.mark.parametrize(("world", "family"), [("tabletop", pocket), ("photos", photo_recipe)])
def test_what_ships_was_trained_by_todays_recipe(world, family):
    bundle = open_bundle(BUNDLED, world=world)
    for member in bundle.members:
        record = bundle.provenance(member).joint
        assert shared_settings(record) == shared(family().joint), member
        older = "pixel_weight" in record
        other = {"pixel_weight": 0.2} if older else {"objective": record["objective"] | {"weight": 0.2}}
        assert shared_settings(record | other) != shared(family().joint)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_kept_seeds_were_trained_by_todays_recipe(path):
    origins = read_measured(path).origins
    assert [origin["joint"] for origin in origins.values()] == [shared(pocket().joint)] * len(origins)
