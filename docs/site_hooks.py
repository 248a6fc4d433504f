"""What mkdocs.yml cannot say: every decision record is in the navigation, and notebooks are pages."""

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File

from docs.notebooks import NOTEBOOKS, page_of


def on_config(config: Any) -> Any:
    """Fill the navigation's entry Decisions, the index first."""
    folder = Path(config["docs_dir"]) / "decisions"
    pages = ["decisions/README.md", *(f"decisions/{path.name}" for path in sorted(folder.glob("0*.md")))]
    for entry in config["nav"]:
        if "Decisions" in entry:
            entry["Decisions"] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, with the outputs that it is kept with."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        content = page_of(nbformat.read(path, as_version=4), title=path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.html", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to notebooks, which in the checkout lie beside the docs, to their pages."""
    return re.sub(r"\(\.\./examples/notebooks/([\w-]+)\.ipynb\)", r"(notebooks/\1.html)", markdown)
