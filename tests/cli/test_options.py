"""Options that are made of the fields of dataclasses."""

import argparse
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import msgspec
import pytest

from emma_viz.cli import options
from emma_viz.cli.main import build_parser
from emma_viz.session.options import Asking, LensRecipe, Running, View


@dataclass(frozen=True)
class Toy:
    """Options of a toy."""

    size: Annotated[int, msgspec.Meta(ge=1)] = 3
    """How large, in
    pixels."""
    colour: Literal["red", "blue"] = "red"
    """Its colour."""
    share: float | None = None
    """100% of it."""
    fast: bool = False
    """Whether it moves."""


def test_an_option_has_the_default_type_and_help_of_its_field():
    parser = argparse.ArgumentParser()
    options.add_fields(parser, Toy, size={}, colour={"flag": "--paint"}, share={}, fast={})
    assert Toy(**options.fields_of(parser.parse_args([]), Toy)) == Toy()
    given = parser.parse_args(["--size", "4", "--paint", "blue", "--share", "0.5", "--fast"])
    assert Toy(**options.fields_of(given, Toy)) == Toy(size=4, colour="blue", share=0.5, fast=True)
    said = " ".join(parser.format_help().split())
    assert "How large, in pixels (default: 3)" in said
    assert "100% of it" in said
    with pytest.raises(SystemExit):
        parser.parse_args(["--paint", "green"])


@pytest.mark.parametrize(
    ("command", "made", "owner"),
    [
        (["figure", "a.png"], options.asking, Asking),
        (["figure", "a.png"], options.running, Running),
        (["figure", "a.png"], options.view, View),
        (["capture", "a.png", "--out", "study"], options.asking, Asking),
    ],
)
def test_a_command_line_without_options_asks_for_the_defaults(command, made, owner):
    assert made(build_parser().parse_args(command)) == owner()


def test_a_recipe_without_options_is_the_default():
    args = build_parser().parse_args(["fit", "cobra-3b", "--images", "photos"])
    assert LensRecipe(**options.fields_of(args, LensRecipe)) == LensRecipe()
    assert set(options.fields_of(args, LensRecipe)) == {each.name for each in fields(LensRecipe)}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("figure", "as stored, but float16 becomes float32 on a CPU"),
        ("figure", "but for EPS and WMF"),
        ("fit", "Images recorded at once; tuned: images of a step"),
        ("benchmark", "import (answers that were given elsewhere), latency or components"),
    ],
)
def test_help_says_what_holds(command, said, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    assert said in " ".join(capsys.readouterr().out.split())
