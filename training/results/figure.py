"""docs/images/results.png: retention by layer, and how often the members answer right."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.render.colours import FAINT, HAIR, INK, MARKERS, MODELS, SOFT
from emma_viz.render.output import write_atomically
from training.results.cells import ends
from training.results.examination import ENCODER, OWN
from training.results.numbers import CAPTIONS, layers_of_members, parts_of_answers

_SIZE = 8
_NAMES = {"-1": "proj."}
_SHOWN = {"caption": "caption (exact)", CAPTIONS: f"{CAPTIONS} (F1)"}
DPI = 160


def draw_results(numbers: Mapping[str, Any], path: Path, *, pictures: str) -> None:
    """Draw the figure of `all_numbers` and write it as a PNG; `pictures`: what the world calls its pictures."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    members = numbers["members"]
    with rc_context({"font.family": "DejaVu Sans", "font.size": _SIZE, "text.parse_math": False}):
        figure = Figure(figsize=(9.6, 3.9), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 1.1))
        retention(panels[0], members, "scenes", f"Held-out {pictures} (band: 95 % over images)")
        retention(panels[1], members, "photos", "Three photographs (band: their range)")
        answers(panels[2], members)
        handles, labels = panels[0].get_legend_handles_labels()
        if any(len(member["seeds"]) > 1 for member in members.values()):
            handles.append(Line2D([], [], color=SOFT, linewidth=0.6, marker="|", markersize=5))
            labels.append("each seed")
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(5, len(labels)),
            frameon=False,
            fontsize=_SIZE,
        )
        write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=DPI))


def retention(axes, members: Mapping[str, Any], which: str, title: str) -> None:
    """R² of the decoded pixels at each place, one line a member and a thin one a seed; the encoder first, the own
    decoder apart."""
    most = max(len(layers_of_members(member[which])) for member in members.values())
    lowest = 0.0
    for number, (name, member) in enumerate(members.items()):
        colour, marker = MODELS[number], MARKERS[number]
        places = [ENCODER, *layers_of_members(member[which])]
        found = [_place(member[which][place]) for place in places]
        value, low, high = zip(*found, strict=True)
        lowest = float(np.nanmin([lowest, *low, *value]))
        axes.fill_between(range(len(places)), low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(
            range(len(places)), value, color=colour, marker=marker, markersize=3.8, linewidth=1.3, label=name
        )
        if len(member["seeds"]) > 1:
            each = [member[which][place]["r2"]["seeds"] for place in places]
            axes.plot(range(len(places)), each, color=colour, linewidth=0.6, alpha=0.6, zorder=1)
        if OWN in member[which]:
            value, low, high = _place(member[which][OWN])
            at = most + 1.6 + 0.35 * number
            axes.errorbar(
                [at],
                [value],
                yerr=_errors(value, low, high),
                color=colour,
                marker=marker,
                markersize=4.5,
                capsize=2,
                linewidth=1,
            )
        untrained = member["controls"]["untrained"]
        if which == "scenes":
            heights = [ends(untrained[place])[0] for place in layers_of_members(untrained)]
            axes.plot(range(1, 1 + len(heights)), heights, color=colour, linestyle=":", linewidth=1, zorder=1)
    labels = layers_of_members(
        next(m for m in members.values() if len(layers_of_members(m[which])) == most)[which]
    )
    ticks = [0, *range(1, most + 1)]
    texts = ["enc.", *(_NAMES.get(label, label) for label in labels)]
    if any(OWN in member[which] for member in members.values()):
        ticks.append(most + 1.6 + 0.35 * (len(members) - 1) / 2)
        texts.append("own\ndec.")
    axes.set_xticks(ticks, texts, fontsize=_SIZE - 1.5)
    for label in axes.get_xticklabels()[:2]:
        label.set_rotation(60)
    axes.set_ylim(min(0.0, lowest - 0.03), 1.0)
    axes.set_title(title, loc="left", fontsize=_SIZE + 0.5, color=INK)
    axes.set_xlabel("layer (dotted: before joint training)" if which == "scenes" else "layer", color=SOFT)
    axes.set_ylabel("R² of the decoded pixels", color=SOFT)
    dress(axes, "y")


def _place(found: Mapping[str, Any]) -> tuple[float, float, float]:
    """R² and the ends of its band: an interval of scenes, the range of photographs."""
    if "each" in found:
        return ends(found["r2"])[0], min(found["each"].values()), max(found["each"].values())
    return ends(found["r2"])


def _errors(value: float, low: float, high: float) -> np.ndarray:
    """Lengths of a bar's ends, (2, 1): none where an end is not known."""
    return np.nan_to_num(np.maximum(0.0, [[value - low], [high - value]]))


def answers(axes, members: Mapping[str, Any]) -> None:
    """Accuracy by topic and F1 of kinds in captions, by kind of pictures where a topic has several, a point a member
    with its interval; a tick a seed."""
    rows = list(parts_of_answers(next(iter(members.values()))))
    for number, member in enumerate(members.values()):
        shift = 0.22 * (number - (len(members) - 1) / 2)
        told = parts_of_answers(member)
        for row, found in enumerate(told[each] for each in rows):
            if found["value"] is None:
                continue
            value, low, high = ends(found)
            axes.errorbar(
                [value], [row + shift], xerr=_errors(value, low, high), color=MODELS[number], marker=MARKERS[number],
                markersize=4, capsize=1.5, linewidth=1, linestyle="none",
            )  # fmt: skip
            if len(found["seeds"]) > 1:
                axes.plot(
                    found["seeds"], [row + shift] * len(found["seeds"]), color=MODELS[number], marker="|",
                    markersize=5, markeredgewidth=0.7, linestyle="none", alpha=0.7, zorder=1,
                )  # fmt: skip
    axes.set_yticks(
        range(len(rows)),
        [", ".join(filter(None, [_SHOWN.get(topic, topic), part])) for topic, part in rows],
        fontsize=_SIZE if len(rows) < 12 else _SIZE - 1.5,
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.axvline(1.0, color=HAIR, linewidth=0.8, zorder=0)
    axes.set_title("Right answers (95 % over images)", loc="left", fontsize=_SIZE + 0.5, color=INK)
    axes.set_xlabel("share of held-out questions", color=SOFT)
    dress(axes, "x")


def dress(axes, grid: str) -> None:
    """Light grid, no box."""
    axes.grid(axis=grid, color=HAIR, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=SOFT, length=2.5, width=0.6)
