"""What mkdocs.yml cannot say: every decision record is in the navigation."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Fill the navigation's entry Decisions, the index first."""
    folder = Path(config["docs_dir"]) / "decisions"
    pages = ["decisions/README.md", *(f"decisions/{path.name}" for path in sorted(folder.glob("0*.md")))]
    for entry in config["nav"]:
        if "Decisions" in entry:
            entry["Decisions"] = pages
    return config
