"""The page: widgets on the left, the canvas on the right, and the events between them and the service."""

import json
import os
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from types import SimpleNamespace
from typing import Any

from apps.explorer.casebooks import casebook_images
from apps.explorer.forms import Forms
from apps.explorer.gate import Gate
from apps.explorer.offer import LENS_METHODS, Settings
from apps.explorer.page.examples import example_images
from apps.explorer.page.links import Link, read_link, restored
from apps.explorer.page.widgets import INTRO, live_side, study_side
from apps.explorer.service import Service
from apps.explorer.sessions import KEPT_RUNS, KEPT_SESSIONS
from apps.explorer.uploads import MAX_BYTES
from emma_viz.errors import MissingDependencyError
from emma_viz.render.script import canvas_script, canvas_style

_TITLE = "emma_viz explorer"
_LOOKS_EVERY = 0.03
"""Seconds after which an idle server looks for work; gradio's own thousandth takes 7 % of a core all day."""

HINT = "|".join(
    (
        "What do the image tokens still hold?",
        "Bring an image on the left, or take an example.",
        "Press Run: each model answers your prompt, and every layer of its image tokens is decoded back to pixels.",
        "Scrub through the layers, point at a patch, click a word of an answer.",
    )
)
"""A title, then what to do, as the canvas's `empty` shows them."""
HINT_STUDY = "Choose an image of the study.|It opens at once: no model is loaded."

GONE = "The image of this link is not kept on this server (any more); bring it again."

CANVAS = "explorer-canvas"
CALLS = ("payload", "words", "attribute", "without", "progress", "cancel", "pin", "mask", "stop", "save")
"""What the canvas asks of the server."""

TICKET = "(window.explorerTicket = (window.explorerTicket ?? 0) + 1)"
"""Script that draws a page's next ticket: each question has one, and so have the news about it."""


def import_gradio():
    """Gradio, told to send nothing anywhere.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as error:
        raise MissingDependencyError(
            "gradio", "open the explorer", 'pip install "emma-viz[gradio]"'
        ) from error
    return gradio


def build(settings: Settings) -> tuple[Any, Service]:
    """The Gradio app and the service behind it.

    Raises:
        MissingDependencyError: Gradio is not installed.
        StudyError: the study cannot be shown.
        CasebookError: the casebook cannot be opened.
    """
    others = casebook_images(settings.casebook) if settings.casebook else None
    service = Service(settings, {} if settings.study else example_images(), others=others)
    # Uploads and thumbnails go where `Service.close` finds them; Gradio makes the folder when it is imported.
    os.environ["GRADIO_TEMP_DIR"] = str(service.uploads.root)
    try:
        gr = import_gradio()
    except MissingDependencyError:
        service.close()
        raise
    with gr.Blocks(
        title=_TITLE, fill_width=True, analytics_enabled=False, delete_cache=(600, 4 * 3600)
    ) as page:
        linked = gr.State(0)
        with gr.Row(elem_id="explorer"):
            with gr.Column(elem_id="explorer-side", scale=0, min_width=220):
                gr.HTML(INTRO, apply_default_css=False)
                controls = study_side(gr, service) if settings.study else live_side(gr, service)
            with gr.Column(elem_id="explorer-stage", scale=1):
                canvas = _canvas(gr, service)
        if settings.study:
            _wire_study(gr, page, service, canvas, controls)
        else:
            _wire_live(gr, page, service, linked, canvas, controls)
        page.unload(_forget(gr, service))
    page.queue(max_size=128, default_concurrency_limit=8)
    page._queue.sleep_when_free = _LOOKS_EVERY
    return page, service


def gate_of(
    page: Any,
    service: Service,
    *,
    hosts: Sequence[str] = (),
    proxied: Sequence[str] = (),
    frames: Sequence[str] = (),
) -> Gate:
    """What stands before the page; the arguments are those of `Gate`."""
    canvas = next(key for key, block in page.blocks.items() if getattr(block, "elem_id", None) == CANVAS)
    forms = Forms(page.fns, canvas, CALLS)
    return Gate(
        forms=forms, uploads=service.uploads, cookie=service.cookie, largest=MAX_BYTES, hosts=hosts, proxied=proxied,
        frames=frames,
    )  # fmt: skip


def launch_options() -> dict[str, Any]:
    """What `launch` needs for the page to look and behave as meant, offline."""
    gr = import_gradio()
    styles = canvas_style() + resources.files("apps.explorer.page").joinpath("explorer.css").read_text(
        "utf-8"
    )
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif"]
    return {
        "theme": gr.themes.Base(
            primary_hue="blue", neutral_hue="stone", font=fonts, font_mono=["ui-monospace", "monospace"]
        ).set(
            body_background_fill="#ffffff",
            body_background_fill_dark="#141518",
            body_text_color_subdued="#5b5d63",
            body_text_color_subdued_dark="#a9a9a6",
            block_info_text_color="#5b5d63",
            block_info_text_color_dark="#a9a9a6",
            background_fill_primary_dark="#141518",
            block_background_fill_dark="#1d1f23",
            input_background_fill_dark="#26282d",
            button_primary_background_fill="#0b5c94",
            button_primary_background_fill_hover="#0a4d7c",
            button_primary_background_fill_dark="#7cc0f2",
            button_primary_background_fill_hover_dark="#a3d3f6",
            button_primary_text_color="#ffffff",
            button_primary_text_color_dark="#10202c",
        ),
        "head": f"<style>{styles}</style><script>{canvas_script()}</script>",
        "ssr_mode": False,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "show_error": True,
        "max_file_size": MAX_BYTES,
        "allowed_paths": [],
        # Gradio keeps as much of a page again as `Sessions` does, and never forgets it by itself.
        "state_session_capacity": KEPT_SESSIONS,
    }


def _canvas(gr, service: Service):
    hint = HINT_STUDY if service.settings.study else HINT
    usual = service.settings.method
    methods = [[each, LENS_METHODS[each][0]] for each in sorted(LENS_METHODS, key=lambda name: name != usual)]
    glue = resources.files("apps.explorer.page").joinpath("glue.js").read_text("utf-8")

    def payload(data: dict) -> dict:
        return service.payload(data)

    def words(data: dict) -> dict:
        return service.words(data)

    def attribute(data: dict) -> dict:
        return service.attribute(data)

    def without(data: dict) -> dict:
        return service.without(data)

    def progress(data: dict) -> dict:
        return service.progress(data)

    def cancel(data: dict) -> dict:
        return service.cancel(data)

    def pin(data: dict) -> dict:
        return service.pin(data)

    def mask(data: dict) -> dict:
        return service.mask(data)

    def stop(data: dict) -> dict:
        return service.stop(data)

    def save(data: dict) -> dict:
        return service.save(data)

    calls = [payload, words, attribute, without, progress, cancel, pin, mask, stop, save]
    assert tuple(each.__name__ for each in calls) == CALLS
    return gr.HTML(
        value="{}",
        elem_id=CANVAS,
        html_template=(
            f'<div class="explorer-root"><div class="explorer-canvas" data-hint="{hint}" data-limit="{MAX_BYTES}"'
            f' data-runs="{KEPT_RUNS}" data-methods="{escape(json.dumps(methods))}">'
            "</div></div>"
        ),
        js_on_load=glue,
        apply_default_css=False,
        server_functions=calls,
    )


def _wire_live(gr, page, service: Service, linked, canvas, controls: dict[str, Any]) -> None:
    image, models, prompt = (controls[name] for name in ("image", "models", "prompt"))
    lens, site, go, stop = (controls[name] for name in ("lens", "site", "go", "stop"))
    hash_box, ticket_box = gr.Textbox(visible=False), gr.Number(visible=False, precision=0)
    asking = [image, prompt, models, lens, site, controls["tokens"], controls["convert"]]
    does = _handlers(gr, service)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # Without "multiple", Gradio drops a question without a word while an older one, though stopped, is not over.
    in_turn = quiet | {"concurrency_limit": 1, "concurrency_id": "models", "trigger_mode": "multiple"}
    widgets = [image, models, prompt, lens, site, controls["tokens"]]
    again = _follow_button(gr)
    opened = (
        page.load(
            does.begin, [hash_box, ticket_box], [linked, canvas, *widgets],
            js=f"() => [window.location.hash, {TICKET}]", **quiet,
        ),
        again.click(
            does.follow, [hash_box, ticket_box], [linked, canvas, *widgets],
            js=f"() => [window.location.hash, {TICKET}]", **quiet,
        ),
    )  # fmt: skip
    runs = [each.then(does.ask_if_linked, [linked, *asking], canvas, **in_turn) for each in opened]
    numbered = f"(...v) => [...v.slice(0, -1), window.explorerAsk({TICKET})]"
    runs.append(
        gr.on([go.click, prompt.submit], does.ask, [*asking, ticket_box], canvas, js=numbered, **in_turn)
    )
    script: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    for each in runs:
        each.failure(None, js="() => { window.explorerFailed(); }", **script)
    stop.click(None, js="() => { window.explorerStop(); }", **script)
    # What is on the page answers what was chosen: the script says when that has changed since.
    gr.on(
        [each.change for each in asking], None, asking, None,
        js="(...v) => { window.explorerChosen?.(...v); }", **script,
    )  # fmt: skip
    image.upload(does.check, image, [image, canvas], **quiet)
    controls["examples"].select(does.take, None, image, **quiet)


def _follow_button(gr):
    """The script presses it when the address changes under an open page."""
    return gr.Button("Follow the link", visible="hidden", elem_id="explorer-follow")


def _handlers(gr, service: Service) -> SimpleNamespace:
    """What the events of a page that asks call."""

    def begin(request: gr.Request, address: str, ticket: int) -> tuple:
        link = read_link(address)
        news = {"stage": "error", "message": GONE} if link.get("image") else {"stage": "empty"}
        return _opened(gr, service, link, _session(service, request), ticket, news)

    def follow(request: gr.Request, address: str, ticket: int) -> tuple:
        """A link that was pasted into a page that is open, or a step back to one."""
        news = {"stage": "error", "message": GONE}
        return _opened(gr, service, read_link(address), _session(service, request), ticket, news)

    def ask(request: gr.Request, *values: Any, linked: bool = False) -> Iterator[str]:
        *question, convert, ticket = values
        token = _session(service, request)
        for news in service.ask(token, *question, ticket, convert=convert, linked=linked):
            yield json.dumps(news)

    def ask_if_linked(request: gr.Request, ticket: int, *values: Any) -> Iterator[Any]:
        if not ticket:
            yield gr.skip()
            return
        yield from ask(request, *values, ticket, linked=True)

    def check(request: gr.Request, upload: str | None) -> tuple:
        token = _session(service, request)
        sentence = service.refusal(token, upload)
        if sentence is None:
            return gr.skip(), gr.skip()
        return None, json.dumps({"stage": "error", "session": token, "message": sentence})

    def take(event: gr.SelectData) -> str | None:
        known = event.index < len(service.examples)
        path = service.file_of(service.examples[event.index]) if known else None
        return str(path) if path else None

    return SimpleNamespace(
        begin=begin, follow=follow, ask=ask, ask_if_linked=ask_if_linked, check=check, take=take
    )


def _session(service: Service, request: Any) -> str:
    """The session of the page that sends an event, whichever of its events comes first."""
    return service.sessions.of(request.cookies.get(service.cookie, ""), request.session_hash)


def _opened(gr, service: Service, link: Link, token: str, ticket: int, news: dict[str, Any]) -> tuple:
    """The ticket of a link's run, or 0 when it names none; news for the page, which are `news` then; the widgets."""
    values = restored(gr, service, link)
    runs, lost = values.pop("runs"), values.pop("lost")
    if runs:
        news = {"stage": "busy", "ask": ticket, "message": "waiting for the models"}
    return (ticket if runs else 0, json.dumps({**news, "session": token, "lost": lost}), *values.values())


def _wire_study(gr, page, service: Service, canvas, controls: dict[str, Any]) -> None:
    hash_box = gr.Textbox(visible=False)

    def begin(request: gr.Request, address: str) -> str:
        wanted = read_link(address)
        assert service.study is not None, "this page is a study's"
        image = wanted.get("image", "")
        index = service.study.number_of(image, wanted.get("prompt", ""))
        lost = ["the image"] if image and image not in service.examples else []
        return json.dumps({**service.show(_session(service, request), index), "lost": lost})

    def show(request: gr.Request, event: gr.SelectData) -> str:
        return json.dumps(service.show(_session(service, request), event.index))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    again = _follow_button(gr)
    for opened in (page.load, again.click):
        opened(begin, hash_box, canvas, js="() => window.location.hash", **quiet)
    controls["images"].select(show, None, canvas, **quiet)


def _forget(gr, service: Service):
    """Gradio calls this when a page is closed; its State is gone by then, so idle sessions end by themselves."""

    def forget() -> None:
        service.sessions.tidy()

    return forget
