"""What stands beside the canvas: the choices of a live page, or the images of a study."""

from abc import ABCMeta
from html import escape
from typing import Any

from apps.explorer.page.links import LINKED_SITES
from apps.explorer.running import MOST_MODELS
from apps.explorer.service import Service

INTRO = """<div id="explorer-title"><h1>emma_viz explorer</h1>
<p>What a vision-language model's image tokens still hold, layer by layer.</p></div>"""


def live_side(gr, service: Service) -> dict[str, Any]:
    """Image, models, prompt, Run and Stop, and what is seldom changed, by name."""
    settings = service.settings
    image = _image_input(gr)(
        label="Image", type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"], height=200,
        format="png", buttons=[], elem_id="explorer-image", placeholder="Drop, paste or choose an image",
    )  # fmt: skip
    examples = gr.Gallery(
        value=service.thumbnails(), show_label=False, columns=6, allow_preview=False, object_fit="cover", buttons=[],
        interactive=False, elem_id="explorer-examples",
    )  # fmt: skip
    models = gr.Dropdown(
        list(settings.models), value=list(settings.chosen), multiselect=True, max_choices=MOST_MODELS, label="Models",
        info="The first two are compared as A and B.", elem_id="explorer-models",
    )  # fmt: skip
    prompt = gr.Textbox(
        "Describe the image in detail.", label="Prompt", lines=2, max_lines=4, max_length=2000,
        elem_id="explorer-prompt", submit_btn=False,
    )  # fmt: skip
    go = gr.Button("Run", variant="primary", elem_id="explorer-run")
    stop = gr.Button("Stop", variant="secondary", elem_id="explorer-stop")
    with gr.Accordion("Lens, hook site, answer", open=False, elem_id="explorer-more"):
        lens = gr.Dropdown(
            list(settings.lenses), value=[next(iter(settings.lenses))], multiselect=True, max_choices=MOST_MODELS,
            label="Lens", elem_id="explorer-lens",
            info="Turns states into pixels. ridge: a linear map per layer, fitted on other images. "
            "Several: a row each.",
        )  # fmt: skip
        site = gr.Dropdown(
            [("the lens's own", ""), *((name, name) for name in LINKED_SITES)], value=[""], multiselect=True,
            max_choices=MOST_MODELS, label="Hook site", elem_id="explorer-site",
            info="Where in a block states are read. Another site than the lens's is decoded by force, and says so. "
            "Several: a row each.",
        )  # fmt: skip
        tokens = gr.Slider(8, 256, value=64, step=8, label="Longest answer, tokens")
        convert = gr.Checkbox(
            False, label="Convert the colour profile", elem_id="explorer-convert",
            info="Of images with another than sRGB. Otherwise it is ignored, as in the released code.",
        )  # fmt: skip
    return {
        "image": image, "examples": examples, "models": models, "prompt": prompt, "go": go, "stop": stop, "lens": lens,
        "site": site, "tokens": tokens, "convert": convert,
    }  # fmt: skip


def study_side(gr, service: Service) -> dict[str, Any]:
    """The title of the study, and its images."""
    pictures = service.thumbnails()
    title = _study_title(service, len(pictures))
    gr.HTML(title, apply_default_css=False, elem_id="explorer-study")
    images = gr.Gallery(
        value=pictures, show_label=False, columns=3, allow_preview=False, object_fit="cover", buttons=[],
        interactive=False, elem_id="explorer-images",
    )  # fmt: skip
    return {"images": images}


def _image_input(gr) -> type:
    """Gradio's image input, which hands on the upload's path instead of opening the file.

    The service opens it, within its limits, and refuses with a sentence what Gradio would fail on. Gradio makes
    such components anew for a session, so the class must know this and not the object; and its metaclass would
    write a .pyi file beside this one, so the class is made without its `__new__`.
    """
    from gradio.component_meta import ComponentMeta

    own = {
        "__module__": gr.Image.__module__,
        "preprocess": lambda _self, payload: payload.path if payload else None,
    }
    return ABCMeta.__new__(ComponentMeta, "Image", (gr.Image,), own)


def _study_title(service: Service, pictures: int) -> str:
    """The open study in words: its folder's name, models, images and questions, and how each can be chosen."""
    assert service.study is not None, "this page is a study's"
    choose = "Choose one:"
    if pictures < len(service.examples):
        choose = (
            f"Choose one of the first {pictures}, or end this page's address with #image= and the name of an image in "
            "the study's folder images, without .png:"
        )
    return f"<b>{escape(service.study.path.resolve().name)}</b><p>{escape(service.study.said)}. {choose}</p>"
