"""Files of what was measured: sums per image, which outlast the weights that they were measured of."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.errors import TrainingError
from emma_viz.files.arrays import read_npz
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import parse_json
from training.pocket.bundle_reading import shared_settings
from training.results.examination import Examined
from training.results.measured import Measured, Shown

_FORMAT = 1
"""Version of the files, and of the definitions behind their numbers: to be raised when a measure, a question or a
control changes its meaning."""

_LARGEST = 256 * 2**20
"""Bytes of the numbers of one bundle; those of the package's have 4 MB."""
EXPECTED = "Name a bundle's folder, or what `python -m training.results BUNDLE --keep FILE` wrote."

SEPARATOR = "|"
"""Between the parts of an array's name: member, field, place, column."""


def save_measured(measured: Measured, path: Path) -> None:
    """Write what was measured of a bundle, in an npz file: the sums as arrays, everything else as JSON."""
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, dict[str, Any]] = {}
    for member, found in measured.members.items():
        texts[member] = {"fingerprint": found.fingerprint, "photo_captions": found.photo_captions}
        for name, kept in _kept(found).items():
            for place, columns in kept.items():
                for column, values in columns.items():
                    arrays[SEPARATOR.join((member, name, place, column))] = values
    about = {
        "format": _FORMAT,
        "name": measured.name,
        "shown": {each.name: getattr(measured.shown, each.name) for each in fields(Shown)},
        "origins": measured.origins,
        "members": texts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    described = np.array(json.dumps(about, ensure_ascii=False))

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, about=described, **arrays)

    write_file(path, write)


FIELDS = ("scenes", "photos", "answers", "tuned", "shuffled", "untrained")
"""Fields of Examined that hold columns by place or topic."""


def _kept(found: Examined) -> dict[str, Mapping[str, Mapping[str, np.ndarray]]]:
    return {**{name: getattr(found, name) for name in FIELDS}, "captions": {"": found.captions}}


def read_measured(path: Path) -> Measured:
    """Read what `save_measured` wrote.

    Raises:
        TrainingError: it is no such file, or of another version.
    """
    arrays = read_npz(path, error=TrainingError, mend=EXPECTED, limit=_LARGEST)
    try:
        about = parse_json(str(arrays.pop("about")), where=str(path), error=TrainingError)
        if about["format"] != _FORMAT:
            raise TrainingError(
                f"{path} is of format {about['format']}; this checkout reads {_FORMAT}. Measure the bundle anew "
                "(`python -m training.results BUNDLE --keep FILE`)."
            )
        kept: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = {
            member: {name: {} for name in (*FIELDS, "captions")} for member in about["members"]
        }
        for name, values in arrays.items():
            member, field, place, column = name.split(SEPARATOR)
            kept[member][field].setdefault(place, {})[column] = values
        if missing := [
            f"{m} {field}" for m, found in kept.items() for field, places in found.items() if not places
        ]:
            raise ValueError(f"no columns of {', '.join(missing)}")
        members = {
            member: Examined(
                fingerprint=texts["fingerprint"],
                photo_captions=tuple(texts["photo_captions"]),
                captions=kept[member].pop("captions")[""],
                **kept[member],
            )
            for member, texts in about["members"].items()
        }
        shown: dict[str, Any] = {**about["shown"], "photos": tuple(about["shown"]["photos"])}
        return Measured(
            name=about["name"],
            shown=Shown(**shown),
            members=members,
            origins={member: _in_todays_words(each) for member, each in about["origins"].items()},
        )
    except TrainingError:
        raise
    except Exception as error:  # whatever a part of another type gives
        raise TrainingError(f"{path} cannot be used ({error!r}). {EXPECTED}") from error


def _in_todays_words(origin: Mapping[str, Any]) -> dict[str, Any]:
    joint = origin["joint"]
    return {**origin, "joint": shared_settings(joint) if isinstance(joint, Mapping) else joint}
