"""docs/results.md, written whole from the numbers: nothing in it is typed by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from emma_viz.metrics.intervals import NONE, RESAMPLES
from emma_viz.metrics.spectrum import OCTAVES
from training.pocket.recipes import in_order
from training.results.cells import plain_number, quoted, ranged, results_table, short, signed_range, widest
from training.results.examination import ENCODER, OWN
from training.results.numbers import CAPTIONS, layers_of_members, parts_of_answers
from training.results.worlds import World

_ASKED = {"caption": "caption, word for word", CAPTIONS: f"{CAPTIONS}, F1"}
"""Topics whose name alone would mislead."""

DEFINITIONS = (
    ("R²", "share of the variance of the pixels (about the images' mean colour) that the decoding explains; 0 is one "
     "colour everywhere. PSNR (dB) and SSIM are means over images, of the image as shown."),
    ("lens", "the ridge lens of the bundle, fitted on training {pictures}; those of encoder and control before "
     "joint training are fitted here, alike. “Own decoder” is the fusion and decoder that EMMA was trained with; a "
     "tuned lens is one that was trained on the frozen member afterwards."),
    ("spectrum", "power of the decoded images per octave of spatial frequency, over that of the true ones."),
    ("class probe", "ridge regression from a token's state to its patch's kind, fitted on the patches of "
     "training {pictures} whose kind is known; share of right kinds among those of held-out {pictures}. Nothing says "
     "what kinds the patches of the unseen photographs are, so that it is not asked of them."),
    ("right answer", "right to its last token, each question asked alone. Yes-rate: share of “Yes.”, where half of "
     "the true answers are. F1: of the kinds that captions name."),
    ("interval", "in brackets: 95 % percentile bootstrap over images, differences paired (the same images are drawn "
     "for both); of photographs, Student's t over them. With several seeds of the joint stage, Student's t "
     "over them too. A difference is claimed only when no interval holds 0."),
)  # fmt: skip
_WIDEST = ("± images", "± seeds")
"""Heads of `widest`."""
_CONTROLS = (
    "R² with a ridge fitted to pixels shuffled between the tokens of all images (it must be about 0), and of the model "
    "as joint training found it: {before}."
)


def results_page(numbers: Mapping[str, Any], world: World) -> str:
    """The document.

    Args:
        numbers: `_head` (how they were made), `members` and `comparisons`.
        world: that the members were trained in.
    """
    members, pictures = numbers["members"], world.pictures
    parts = [
        f"# {world.title}",
        _head(numbers, world),
        in_short(numbers),
        f"![Retention by layer and right answers](images/{world.page}.png)",
        "## Retention by layer",
        "Places: the encoder's tokens, −1 behind the projector, then the blocks; residual stream. `±`: the widest half "
        "interval of the row, over images and, where a member has several, over seeds.",
        *scene_tables(members, pictures),
        tuned_table(members, pictures),
        photo_table(members),
        spectrum_table(members, pictures),
        "## Where the picture is lost",
        loss_table(members, pictures),
        "\n".join(f"- {name}: {member['loss_sentence']}." for name, member in members.items()),
        "## Controls",
        _CONTROLS.format(before=world.before),
        control_table(members),
        *(("## What MFF does", mff(numbers["comparisons"], world.fusion)) if world.fusion else ()),
        "## Answers",
        answers_intro(members, world.parts),
        answer_table(members),
        each_seed(members),
        "## Answers during training",
        training_curves(numbers["head"], pictures),
        "## Differences between members",
        *(_comparison(pair) for pair in numbers["comparisons"]),
        multiple(numbers["comparisons"]),
        "## Captions of the photographs",
        captions(members),
        "## Definitions",
        "\n".join(f"- **{name}**: {text.format(pictures=pictures)}" for name, text in DEFINITIONS),
        "The exact ones are the docstrings of `training/results/measures.py` and `emma_viz/metrics/intervals.py`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(numbers: Mapping[str, Any], world: World) -> str:
    """Who made the page, of what, with how many seeds."""
    how, members = numbers["head"], numbers["members"]
    bundles = [
        f"- {member}, seed {origin['seed']}, bundle `{each['name']}`: made by `{origin['command']}` at commit "
        f"{short(origin['commit'])}{trained_at(origin)}, data {origin['data']}; measured at commit "
        f"{short(origin['measured_at'])}"
        for each in how["bundles"]
        for member, origin in each["members"].items()
    ]
    photos = ", ".join(each.partition(".")[0] for each in how["photos"])
    seeds = "; ".join(f"{name} {', '.join(map(str, member['seeds']))}" for name, member in members.items())
    return (
        f"Written whole by `{how['command']}` at commit {short(how['commit'])}; do not edit. Answers: {how['answers']} "
        f"held-out {world.pictures}; retention: {how['retention']} of them; fits: {how['fit']} training "
        f"{world.pictures}; unseen photographs: {photos} of scikit-image. Intervals: {RESAMPLES} resamples. "
        f"Seeds: {seeds}. "
        + " ".join(filter(None, [world.about, caution(numbers, world.shared), *whose_seeds(numbers)]))
        + "\n\n"
        + "\n".join(bundles)
    )


def whose_seeds(numbers: Mapping[str, Any]) -> list[str]:
    """Which seeds are behind a member's numbers and which behind a comparison, where these need not be the same."""
    if all(len(member["seeds"]) == 1 for member in numbers["members"].values()):
        return []
    return [
        "A member's numbers are means over its seeds; a comparison is over the seeds that both its members have, so "
        "that its differences need not be those between a table's rows."
    ]


def trained_at(origin: Mapping[str, Any]) -> str:
    """The commits of the stages that were trained before the bundle was made, at another commit than it."""
    found = origin.get("trained_at", {})  # files that were kept earlier do not have it
    stages = [f"{stage} {short(commit)}" for stage, commit in found.items() if commit != origin["commit"]]
    return f" (stages trained before: {', '.join(stages)})" if stages else ""


def caution(numbers: Mapping[str, Any], shared: str) -> str:
    """What the seeds allow to claim; `shared`: what they have in common."""
    counts = [len(pair["seeds"]) for pair in numbers["comparisons"]]
    counts = counts or [len(member["seeds"]) for member in numbers["members"].values()]
    if max(counts) == 1:
        return "No comparison is over more than one seed: nothing here is claimed about other seeds."
    if min(counts) == 1:
        return f"{shared} What is compared with one seed supports no claim about other seeds."
    return f"{shared} Claims hold over these seeds as well as over images."


def in_short(numbers: Mapping[str, Any]) -> str:
    """The claims that hold and, as plainly, the comparisons that do not."""
    lines = []
    for pair in numbers["comparisons"]:
        held = [row["claim"] for row in pair["rows"] if row["claim"] != NONE]
        unheld = [row["what"] for row in pair["rows"] if row["claim"] == NONE]
        title = f"{pair['a']} against {pair['b']} ({seeds_of(pair)})"
        lines.append(f"- {title}, supported:{'' if held else ' nothing'}")
        lines += [f"  - {claim}" for claim in held]
        lines.append(f"- {title}, {NONE}: {'; '.join(unheld) if unheld else 'none of those measured'}.")
    if not lines:
        lines = ["- No two of the members that are compared are in the bundle."]
    lines += [joint_training(member, found) for member, found in numbers["members"].items()]
    return "## In short\n\n" + "\n".join(lines)


def joint_training(member: str, found: Mapping[str, Any]) -> str:
    """What joint training did to what a ridge lens finds, at the ends of the stream."""
    words = {1: "a ridge lens finds more of the pixels", -1: "a ridge lens finds less of the pixels", 0: NONE}
    ends = zip(
        ("behind the projector", "at the last block"), found["trained_less_untrained"].values(), strict=True
    )
    said = "; ".join(f"{where}, {words[each['sign']]}" for where, each in ends)
    return f"- {member} against itself before joint training: {said}."


def seeds_of(pair: Mapping[str, Any]) -> str:
    """The seeds that a comparison is over."""
    return f"{'seed' if len(pair['seeds']) == 1 else 'seeds'} {', '.join(map(str, pair['seeds']))}"


def places_of(members: Mapping[str, Any], which: str) -> list[str]:
    """Encoder, all layers that any member has, own decoder where one has it."""
    most = max((layers_of_members(member[which]) for member in members.values()), key=len)
    own = [OWN] if any(OWN in member[which] for member in members.values()) else []
    return [ENCODER, *most, *own]


def scene_tables(members: Mapping[str, Any], pictures: str) -> list[str]:
    """R², PSNR, SSIM and the probe on held-out pictures, a row a member."""
    titles = {"r2": "R²", "psnr": "PSNR, dB", "ssim": "SSIM", "probe": "Class probe, accuracy"}
    out = []
    for name, title in titles.items():
        digits = 1 if name == "psnr" else 2
        places = [place for place in places_of(members, "scenes") if name != "probe" or place != OWN]
        rows = []
        for member, found in members.items():
            cells = [found["scenes"].get(place, {}).get(name) for place in places]
            rows.append([member, *(plain_number(cell, digits) for cell in cells), *widest(cells, digits + 1)])
        out.append(
            f"{title}, held-out {pictures}\n\n" + results_table(["", *map(_shown, places), *_WIDEST], rows)
        )
    return out


def tuned_table(members: Mapping[str, Any], pictures: str) -> str:
    """R² of the tuned lenses, a row a member."""
    layers = max((list(member["tuned"]) for member in members.values()), key=len)
    rows = [
        [
            member,
            *(plain_number(found["tuned"].get(layer)) for layer in layers),
            *widest([*found["tuned"].values()]),
        ]
        for member, found in members.items()
    ]
    intro = (
        f"R² with the tuned lens, held-out {pictures}: a decoder that was trained on the frozen member and mixes "
        "tokens, the same budget for each"
    )
    return f"{intro}\n\n" + results_table(["", *map(_shown, layers), *_WIDEST], rows)


def _shown(place: str) -> str:
    """A place as a column's head, with a real minus sign."""
    return place.replace("-1", "−1")


def photo_table(members: Mapping[str, Any]) -> str:
    """Means over the photographs at every place; R² of each at the ends of the way."""
    places = places_of(members, "photos")
    rows = []
    for member, found in members.items():
        kept = found["photos"]
        for name, title, digits in (("r2", "R²", 2), ("psnr", "PSNR", 1), ("ssim", "SSIM", 2)):
            cells = [kept.get(place, {}).get(name) for place in places]
            row = (plain_number(cell, digits) for cell in cells)
            rows.append([f"{member}, {title}", *row, *widest(cells, digits + 1)])
    ends = [
        (member, place)
        for member, found in members.items()
        for place in (*(layers_of_members(found["photos"])[end] for end in (0, -1)), OWN)
        if place in found["photos"]
    ]
    each = [
        [
            photo.partition(".")[0],
            *(plain_number(members[m]["photos"][place]["each"][photo]) for m, place in ends),
        ]
        for photo in next(iter(members.values()))["photos"][ENCODER]["each"]
    ]
    intro = (
        f"Photographs: means over the {len(each)} that no stage of training has seen. They are no sample of all "
        "photographs, and so few have wide intervals: nothing is claimed from them"
    )
    heads = [f"{member}, {_shown(place)}" for member, place in ends]
    return (
        f"{intro}\n\n{results_table(['', *map(_shown, places), *_WIDEST], rows)}\n\n"
        f"R² of each photograph\n\n{results_table(['', *heads], each)}"
    )


def spectrum_table(members: Mapping[str, Any], pictures: str) -> str:
    """Power per octave, decoded over true, at every place."""
    rows = []
    for member, found in members.items():
        for place in found["scenes"]:
            scenes, photos = found["scenes"][place]["spectrum"], found["photos"][place]["spectrum"]
            cells = [
                f"{plain_number(scenes[str(low)])} / {plain_number(photos[str(low)])}" for low in OCTAVES
            ]
            rows.append([f"{member}, {_shown(place)}", *cells, *widest([*scenes.values()])])
    heads = [f"{low}–{2 * low}" for low in OCTAVES[:-1]] + [f"{OCTAVES[-1]}–"]
    intro = (
        f"Spectrum: power of the decoded over the true images, by cycles per image side; {pictures} / unseen "
        f"photographs. The intervals are those of the {pictures}"
    )
    return f"{intro}\n\n" + results_table(["", *heads, *_WIDEST], rows)


def loss_table(members: Mapping[str, Any], pictures: str) -> str:
    """R² lost on each part of the way."""
    names = list(next(iter(members.values()))["loss"])
    rows = [
        [member, *(signed_range(found["loss"][name]) for name in names)] for member, found in members.items()
    ]
    intro = (
        f"R² lost on held-out {pictures}: at the projector (encoder to −1), in block 0, in all later blocks"
    )
    return f"{intro}\n\n" + results_table(["", *names], rows)


def control_table(members: Mapping[str, Any]) -> str:
    """Trained, untrained and shuffled, at the ends of the residual stream."""
    rows = []
    for member, found in members.items():
        layers = layers_of_members(found["scenes"])
        for place in (layers[0], layers[-1]):
            cells = [ranged(found["controls"][name][place]) for name in ("untrained", "shuffled")]
            cells.insert(1, signed_range(found["trained_less_untrained"][place]))
            rows.append([member, _shown(place), ranged(found["scenes"][place]["r2"]), *cells])
    heads = ["trained", "before joint training", "trained − before", "shuffled pixels"]
    return results_table(["", "layer", *heads], rows)


def mff(comparisons: Sequence[Mapping[str, Any]], fusion: tuple[str, str]) -> str:
    """What the pair with and without MFF says, or that there is none."""
    for pair in comparisons:
        if (pair["a"], pair["b"]) == fusion:
            rows = [row for row in pair["rows"] if row["what"].startswith("R²")]
            lines = [f"- {row['what']}: {signed_range(row['difference'])}: {row['claim']}." for row in rows]
            return f"{fusion[0]} less {fusion[1]}, all else equal ({seeds_of(pair)}):\n\n" + "\n".join(lines)
    return f"Not measured: there is no seed of both {fusion[0]} and {fusion[1]}."


def answers_intro(members: Mapping[str, Any], parts: Sequence[str]) -> str:
    """How many questions a row is of and, where there are kinds of pictures, that rows are parted by them."""
    captions = next(iter(members.values()))["captions_f1"]["images"]
    said = (
        f"Kinds in captions are of the first {captions} pictures: one caption, hence one question, of each."
    )
    if not parts:
        return said
    return (
        f"Rows without a kind of picture are of all: {' and '.join(parts)} together, by turns. What is asked of one "
        f"kind alone says so. {said}"
    )


def answer_table(members: Mapping[str, Any]) -> str:
    """Accuracy by topic with intervals, yes-rates, and the F1 of captions; of all pictures and of each kind of them."""
    first = next(iter(members.values()))
    rows = []
    for topic, found in first["answers"].items():
        parts, name = found["parts"], _ASKED.get(topic, topic)
        alone = f", {next(iter(parts))} alone" if len(parts) == 1 else ""
        rows += _answer_rows(name + alone, topic, [member["answers"][topic] for member in members.values()])
        for part in parts if not alone else ():
            told = [member["answers"][topic]["parts"][part] for member in members.values()]
            rows += _answer_rows(f"{name}, {part}", f"{topic}, {part}", told)
    named = {"": [member["captions_f1"] for member in members.values()]}
    for part in first["captions_f1_parts"]:
        named[f", {part}"] = [member["captions_f1_parts"][part] for member in members.values()]
    for part, each in named.items():
        rows.append([f"{_ASKED[CAPTIONS]}{part}", str(each[0]["images"]), *map(ranged, each)])
    return results_table(["topic", "questions", *members], rows)


def _answer_rows(name: str, topic: str, told: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The row of right answers and, of existence, that of the yes-rate; `told`: of each member."""
    count = str(told[0]["questions"])
    rows = [[name, count, *(ranged(each["accuracy"]) for each in told)]]
    if "yes_rate" in told[0]:
        rows.append([f"{topic}, yes-rate", count, *(ranged(each["yes_rate"]) for each in told)])
    return rows


def each_seed(members: Mapping[str, Any]) -> str:
    """What each seed shows of the pixels at the ends of the stream and how often it answers right, by kind of pictures
    where a topic has several; nothing where every member has one seed alone."""
    if all(len(found["seeds"]) == 1 for found in members.values()):
        return ""
    topics = list(parts_of_answers(next(iter(members.values()))))
    rows = []
    for member, found in members.items():
        layers = layers_of_members(found["scenes"])
        kept = [found["scenes"][place]["r2"] for place in (layers[0], layers[-1])]
        right = parts_of_answers(found)
        cells = [*kept, found["tuned"][layers[-1]], *(right[topic] for topic in topics)]
        for at, seed in enumerate(found["seeds"]):
            rows.append([member, str(seed), *(plain_number(cell["seeds"][at]) for cell in cells)])
    heads = ["R² behind the projector", "R² at the last block", "the same, tuned lens"]
    heads += [", ".join(filter(None, [_ASKED.get(topic, topic), part])) for topic, part in topics]
    return "## Each seed\n\n" + results_table(["", "seed", *heads], rows)


def training_curves(how: Mapping[str, Any], pictures: str) -> str:
    """Share of right answers about validation pictures against steps and minutes, of every member and seed."""
    parts = []
    runs = [(member, origin) for each in how["bundles"] for member, origin in each["members"].items()]
    order = in_order(member for member, _ in runs)
    runs.sort(key=lambda run: (order.index(run[0]), run[1]["seed"]))
    for member, origin in runs:
        if scores := origin["scores"]:
            topics = sorted(scores[-1]["accuracy"])
            rows = [
                [
                    str(each["step"]),
                    f"{each['minutes']:.0f}",
                    *(plain_number(each["accuracy"].get(t)) for t in topics),
                ]
                for each in scores
            ]
            parts.append(
                f"{member}, seed {origin['seed']}, joint stage\n\n"
                + results_table(["step", "minutes", *topics], rows)
            )
    if not parts:
        return "Not recorded when these bundles were trained."
    intro = (
        f"Share of right answers about a few validation {pictures}, each question asked alone; too few for intervals, "
        "but enough to see whether training had come to its end."
    )
    return "\n\n".join([intro, *parts])


def _comparison(pair: Mapping[str, Any]) -> str:
    """All differences of one pair and what each supports."""
    rows = [[row["what"], signed_range(row["difference"]), row["claim"]] for row in pair["rows"]]
    header = ["", f"{pair['a']} − {pair['b']} ({seeds_of(pair)})", "what the data supports"]
    return results_table(header, rows)


def multiple(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """A caution about many intervals at once."""
    count = sum(len(pair["rows"]) for pair in comparisons)
    if not count:
        return "No two of the members that are compared are in the bundle."
    return (
        f"These are {count} intervals of 95 %, each by itself: were there no difference at all, about "
        f"{count / 20:.1f} of them would still exclude 0."
    )


def captions(members: Mapping[str, Any]) -> str:
    """What the members say of photographs, which no member was trained on."""
    photos = next(iter(members.values()))["photo_captions"]
    rows = [
        [photo.partition(".")[0], *(quoted(found["photo_captions"][photo]) for found in members.values())]
        for photo in photos
    ]
    return "None was trained on (first seed).\n\n" + results_table(["", *members], rows)
