"""Words for Plotly's charts, which read tags and entities in every title, tick, legend and label."""

from emma_viz.render.words import clean

_SIGNS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"})
"""Also the sign between which Plotly sees formulas, where the page has MathJax."""


def plotly_text(text: str) -> str:
    """A text that Plotly shows as it stands: names from files can neither link nor format.

    Examples:
        >>> plotly_text("<b>emma</b> & co")
        '&lt;b&gt;emma&lt;/b&gt; &amp; co'
    """
    return clean(text).translate(_SIGNS)
