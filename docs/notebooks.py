"""Runs the notebooks of examples/notebooks: each with its outputs, and as a page that needs no server and no network.

python docs/notebooks.py [FOLDER] [NAME…]
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

NOTEBOOKS = Path(__file__).resolve().parent.parent / "examples" / "notebooks"
_LONGEST = 3600
"""Seconds for a cell."""


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, and nothing of when and where it ran.

    Args:
        path: the notebook, which stays as it is.
        folder: where it runs, and leaves its files.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    # `!emma-viz` is that of this Python, whatever shell this was started from.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Pictures are those of a notebook, whatever this was started from draws with (Streamlit leaves "Agg" there).
    os.environ.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook,
        timeout=_LONGEST,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,  # of a progress bar, its end
    )
    done = client.execute()
    done.metadata.pop("language_info", None)
    for cell in (each for each in done.cells if each.cell_type == "code"):
        cell.outputs = [each for each in cell.outputs if _says_something(each)]
    return nbformat.reads(nbformat.writes(done).replace(f"{folder.resolve()}{os.sep}", ""), as_version=4)


def _says_something(output: nbformat.NotebookNode) -> bool:
    """Whether an output is kept: no notes of a first run, such as where kernels are compiled to, and nothing of a
    command's progress bar that took itself away. Such a bar is drawn where its task took a while, so on some machines
    alone."""
    if output.output_type != "stream":
        return True
    return output.name != "stderr" and bool(output.text.strip())


def page_of(notebook: nbformat.NotebookNode, *, title: str) -> str:
    """A notebook as a page: light or dark as the reader's system is, and nothing is fetched from elsewhere."""
    exporter = HTMLExporter(template_name="basic", embed_images=True)
    body, _ = exporter.from_notebook_node(notebook)
    style = (Path(__file__).parent / "notebooks.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def main(out: str = "out/notebooks", *names: str) -> None:
    """Run all notebooks, or those named; write each with its outputs, and its page."""
    pages = Path(out)
    pages.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        folder = Path(tempfile.mkdtemp(prefix="emma-viz-"))
        try:
            notebook = executed(path, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        nbformat.write(notebook, pages / path.name)
        (pages / f"{path.stem}.html").write_text(page_of(notebook, title=path.stem), encoding="utf-8")
        print(f"wrote {pages / path.stem}.ipynb and .html")


if __name__ == "__main__":
    main(*sys.argv[1:])
