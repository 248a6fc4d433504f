"""The gallery: writes docs/gallery.md, whose pictures are all made by scripts of the repository.

python -m docs.gallery
"""

from pathlib import Path

HERE = Path(__file__).parent
PICTURES = {
    "figure.png": ("The figure of the start page", "scripts/demo", ""),
    "figure-pocket.png": (
        "The same photograph by the pair that has only seen drawings",
        "emma-viz figure photo.jpg --models cobra-pocket emma-v1-pocket",
        "[why the photo pair is the default](decisions/0021-photo-pair.md)",
    ),
    "results-photo.png": (
        "What the photo pair keeps of a picture",
        "python -m training.results --photos caltech101/",
        "[results](results-photo.md)",
    ),
    "results.png": (
        "What the pocket family keeps of a picture",
        "python -m training.results",
        "[results](results.md)",
    ),
    "explorer.png": ("The explorer", "scripts/screenshots", "[explorer](explorer.md)"),
    "explorer-word.png": (
        "What a word of an answer depends on, and whether that beats chance",
        "scripts/screenshots",
        "[evidence](evidence.md)",
    ),
    "explorer-dark.png": (
        "A patch that is held, in the dark",
        "scripts/screenshots",
        "[explorer](explorer.md)",
    ),
}
"""Picture in docs/images → its title, the command that makes it, and where to read on."""


def page() -> str:
    """The text of docs/gallery.md."""
    lines = [
        "# Gallery",
        "",
        "Every picture is made by a script of the repository, with models that ship. `python -m docs.gallery` writes",
        "this page.",
    ]
    for name, (title, command, more) in PICTURES.items():
        said = f"`{command}`" + (f"; more: {more}" if more else "")
        lines += ["", f"## {title}", "", f"![{title}](images/{name})", "", said]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "gallery.md").write_text(page(), encoding="utf-8")
