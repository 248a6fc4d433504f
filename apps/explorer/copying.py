"""The view as a program: Python, or the command line, that makes the same maps with the same models."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from apps.explorer.offer import Settings
from apps.explorer.questions import OfView
from apps.explorer.state import RunResult
from apps.explorer.values import LETTERS
from emma_viz import __version__
from emma_viz.files.named import named_path
from emma_viz.lens.kinds import kind_names
from emma_viz.session import Running, View

HOW = ("device", "dtype", "backend", "vision_source", "tokenizer_source", "llm_source", "part")
FLAGS = {"vision_source": "vision", "tokenizer_source": "tokenizer", "llm_source": "llm"}


def named(source: str) -> str:
    """A source without its folders, which are the server's own business; what is no file stays as it is."""
    found = named_path(source)
    return found.resolve().name if found.exists() else source


def as_command(result: RunResult, view: OfView, settings: Settings, name: str) -> str:
    """A script of `emma-viz figure`, or `compare` for a study, that draws the maps on the page.

    One command draws the models together where they show the same layer; elsewhere each has its own, with the limits
    that all share on the page. The difference of two of more models has a command of its own.

    Args:
        result: what is shown.
        view: what of it, and how.
        settings: where the models come from. Files are called by their names alone: run it where they lie.
        name: of the pictures.
    """
    lines = [f"# {_title(result)}", *(f"# {text}" for text in _told(result, settings))]
    lines += _painting(result)
    groups = list(_groups(view, _sites(result)))
    shared = view.scale == "shared" and (result.study is not None or len(groups) > 1)
    scale = _shared(result, view) if shared else view.scale
    for group, suffix, difference in groups:
        words = _study(result, group) if result.study else _asked(result, settings, group)
        layer = view.layers[group[0]]
        words += [
            "--layers",
            _layer(layer),
            "--map",
            view.kind,
            f"--scale={scale}",
            "--colormap",
            view.colours,
        ]
        words += ["--difference"] if difference else []
        words += ["--out", f"./{name}{suffix}-layer-{_layer(layer)}.png"]
        lines.append(_wrapped(words))
    return "\n".join(lines) + "\n"


def as_python(result: RunResult, view: OfView, settings: Settings, name: str) -> str:
    """A Python script that finds the maps on the page as arrays, and draws them.

    Arguments as for `as_command`.
    """
    shown = View(map_kind=view.kind, scale=view.scale, colormap=view.colours)
    fields = [f"{key}={getattr(shown, key)!r}" for key in ("map_kind", "scale", "colormap")]
    lines = [f"# {_title(result)}", *(f"# {text}" for text in _told(result, settings))]
    lines += list(_compare_study(result) if result.study else _compare(result, settings))
    lines += [f"view = View({', '.join(fields)})", "maps = comparison.maps(view)", ""]
    lines += [
        "# Per model: the values of its map, rows × columns, at the layer that was shown.",
        f"layers = {tuple(view.layers)!r}",
        "values = [each.values[each.layers.index(layer), 0] for each, layer in zip(maps, layers)]",
    ]
    for group, suffix, difference in _groups(view, ("",)):
        chosen = ", ".join(f"maps[{index}]" for index in group)
        how = f"View({', '.join([*fields, 'difference=True'])})" if difference else "view"
        layer = view.layers[group[0]]
        out = f"{name}{suffix}-layer-{_layer(layer)}.png"  # never the photograph's own name
        lines.append(f"figure({chosen}, view={how}, layers=[{layer}]).savefig({out!r})")
    return "\n".join(lines) + "\n"


def lens_names(result: RunResult, settings: Settings) -> list[str]:
    """Per model, the lens that it was decoded with, as a command line names it: of several, the first it had."""
    found = []
    for row, each in zip(result.rows, result.comparison.decodings, strict=True):
        offered = settings.lenses.get(row.lens, ())
        kinds = [name for name in offered if name in kind_names() and name == each.lens.kind]
        files = [named(name) for name in offered if name not in kind_names()]
        found.append((kinds or files or [each.lens.kind])[0])
    return found


def _sites(result: RunResult) -> tuple[str, ...]:
    """The hook sites that were asked for, a row each; as one where all are the same."""
    sites = tuple(row.site for row in result.rows)
    return sites if len({*sites}) > 1 else ("",)


def _groups(view: OfView, sites: Sequence[str]) -> Iterator[tuple[tuple[int, ...], str, bool]]:
    """The pictures of a view: which models, what their name ends in, and whether they show the difference.

    Args:
        sites: of the rows, where one picture cannot show several.
    """
    models = tuple(range(len(view.layers)))
    # A difference is of one layer of both.
    together = len(set(view.layers)) == 1 and len(sites) == 1
    same = len(sites) == 1 or len({sites[index] for index in view.pair}) == 1
    subtracted = view.difference and same and len({view.layers[index] for index in view.pair}) == 1
    if together:
        yield models, "", subtracted and view.pair == models
    else:
        yield from (((index,), f"-{LETTERS[index]}", False) for index in models)
    if subtracted and view.pair != models:
        first, second = view.pair
        yield view.pair, f"-{LETTERS[first]}-minus-{LETTERS[second]}", True


def _title(result: RunResult) -> str:
    return f"A view of the explorer of emma_viz {__version__}"


def _told(result: RunResult, settings: Settings) -> Iterator[str]:
    """What a reader must know before the program runs."""
    if result.study:
        yield f"The study is the folder {result.study.resolve().name!r}, and is looked for where this is run."
    else:
        digest = result.asked.image_hash
        yield f"The image is the one whose pixels have the SHA-256 {digest[:16]}…, and is looked for where this is run."
    if any(named_path(source).exists() for source in settings.models.values() if not result.study):
        yield "Models, lenses and weights that are files of the server's are called by their names alone."


def _layer(layer: int) -> str:
    return "embedding" if layer < 0 else str(layer)


def _shared(result: RunResult, view: OfView) -> str:
    sample = [each.select(samples=[result.sample]) for each in result.comparison.decodings]
    (low, high) = (
        type(result.comparison)(decodings=tuple(sample)).maps(View(map_kind=view.kind))[0].limits[0, 0]
    )
    return f"{float(low)!r}:{float(high)!r}"


def _forced(result: RunResult, group: Sequence[int]) -> bool:
    return any(result.rows[index].site and result.comparison.decodings[index].forced for index in group)


def _how(running: Running) -> dict[str, str | dict[str, str]]:
    """How models are loaded where that is not the default; a mapping of towers has one entry for each."""
    found = {}
    for key in HOW:
        value = getattr(running, key)
        if value != getattr(Running(), key):
            found[key] = named(value) if isinstance(value, str) else {k: named(v) for k, v in value.items()}
    return found


def _masked_file(result: RunResult) -> str:
    """What the command line calls the image that was painted over."""
    return f"{PurePath(result.file).stem}-masked.png" if result.painted else result.file


def _read(result: RunResult) -> Iterator[str]:
    """Python that reads the image, and paints over it what was painted over."""
    yield f"image = read_image({result.file!r}{', convert_profile=True' * result.converted})"
    for each in result.painted:
        yield f"image.paste({each.colour!r}, {each.box!r})"


def _painting(result: RunResult) -> list[str]:
    """Shell lines that write the image that was painted over; none where none was."""
    if not result.painted:
        return []
    return [
        "python3 - <<'END'",
        "from emma_viz.data import read_image",
        *_read(result),
        f"image.save({_masked_file(result)!r})",
        "END",
    ]


def _sources(result: RunResult, settings: Settings) -> list[str]:
    return [named(settings.models[label]) for label in result.models]


def _asked(result: RunResult, settings: Settings, group: Sequence[int]) -> list[str]:
    sources, lenses = _sources(result, settings), lens_names(result, settings)
    site = result.rows[group[0]].site
    words = ["emma-viz", "figure", f"./{_masked_file(result)}"]
    words += ["--convert-profile"] if result.converted and not result.painted else []
    words += ["--models", *(sources[index] for index in group)]
    words += ["--lens", *(lenses[index] for index in group)]
    words += [f"--site={site}"] if site else []
    words += ["--force-lens"] if _forced(result, group) else []
    for key, value in _how(settings.running).items():
        given = [value] if isinstance(value, str) else [f"{tower}={path}" for tower, path in value.items()]
        words += [f"--{FLAGS.get(key, key)}", *given]
    return [*words, f"--prompt={result.asked.prompt}", "--max-new-tokens", str(result.asked.tokens)]


def _study(result: RunResult, group: Sequence[int]) -> list[str]:
    assert result.study is not None
    entries = [result.asked.entries[index] for index in group] if result.asked.entries else []
    return [
        "emma-viz",
        "compare",
        f"./{result.study.resolve().name}",
        *(["--entries", *entries] if entries else []),
        "--samples",
        str(result.number),
    ]


def _wrapped(words: Sequence[str]) -> str:
    """A command on lines that end in a backslash, an option each."""
    lines, line = [], []
    for word in words:
        if word.startswith("--") and line:
            lines.append(" ".join(line))
            line = []
        line.append(shlex.quote(word))
    return " \\\n  ".join([*lines, " ".join(line)])


def _compare(result: RunResult, settings: Settings) -> Iterator[str]:
    asked, how = result.asked, _how(settings.running)
    yield "from emma_viz.data import image_hash, read_image"
    yield f"from emma_viz.session import Asking, Comparison, {'Running, ' * bool(how)}View, compare, figure"
    yield ""
    yield from _read(result)
    yield f"if image_hash(image) != {asked.image_hash!r}:"
    yield '    raise SystemExit("This is another image than that of the view.")'
    # One call is of one site.
    sites = tuple(row.site for row in result.rows)
    every = tuple(range(len(sites)))
    groups = [every] if len({*sites}) == 1 else [(index,) for index in every]
    sources, lenses = _sources(result, settings), lens_names(result, settings)
    yield "rows = ["
    for group in groups:
        yield "    compare("
        yield "        image,"
        yield f"        {[sources[index] for index in group]!r},"
        yield f"        lenses={[lenses[index] for index in group]!r},"
        if site := sites[group[0]]:
            yield f"        site={site!r},"
        if _forced(result, group):
            yield "        force_lens=True,"
        yield f"        asking=Asking(prompt={asked.prompt!r}, max_new_tokens={asked.tokens}),"
        if how:
            yield f"        running=Running({', '.join(f'{key}={value!r}' for key, value in how.items())}),"
        yield "    ),"
    yield "]"
    yield "comparison = Comparison(decodings=tuple(each for row in rows for each in row.decodings))"


def _compare_study(result: RunResult) -> Iterator[str]:
    assert result.study is not None
    entries = f", entries={list(result.asked.entries)!r}" if result.asked.entries else ""
    yield "from pathlib import Path"
    yield ""
    yield "from emma_viz.session import View, compare_study, figure"
    yield ""
    yield f"comparison = compare_study(Path({result.study.resolve().name!r}){entries}, samples=[{result.number}])"
