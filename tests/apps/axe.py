"""What shuts people out of a page, as axe-core finds it."""

from tests.apps.programs import library
from tests.apps.visiting import Visit

SCRIPT = "node_modules/axe-core/axe.min.js"
REST = """() => Promise.all(
  document.getAnimations().filter((each) => Number.isFinite(each.effect.getComputedTiming().endTime))
    .map((each) => each.finished.catch(() => {}))
)"""
NOT_OURS = (".loading",)
"""Parts that Gradio shows before its page is there."""


def violations(visit: Visit, *rules: str) -> list[str]:
    """One line for each rule that a page breaks: the rule, and where.

    Colours are judged only where a screen shows them, so the screen is made as tall as the page; and at rest.

    Args:
        rules: those that are looked at; all of axe-core's when none is named.
    """
    width = visit.page.evaluate("innerWidth")
    height = visit.page.evaluate("Math.max(innerHeight, document.documentElement.scrollHeight)")
    visit.page.set_viewport_size({"width": width, "height": height})
    visit.drawn()
    visit.page.evaluate(REST)
    if not visit.page.evaluate("Boolean(window.axe)"):
        visit.page.evaluate(library(SCRIPT).read_text("utf-8"))
    found = visit.page.evaluate(
        "only => axe.run(document, { resultTypes: ['violations'], ...(only.length && { runOnly: only }) })",
        list(rules),
    )["violations"]
    lines = []
    for rule in found:
        places = [str(node["target"][0]) for node in rule["nodes"] if node["target"][0] not in NOT_OURS]
        if places:
            lines.append(f"{rule['id']}: {', '.join(places[:5])}")
    return lines
