"""Cases to take away: a PDF, or one HTML page; made when they are asked for.

A document has an address of its own, which says what is in it. It does not hang on the page that links it: a page that
is drawn anew while somebody presses the link would otherwise lose what was pressed.
"""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from apps.casebook.gate import DOCUMENT_PATH
from apps.casebook.permalinks import filter_of
from apps.casebook.shared import case_maps, shared_casebook
from apps.casebook.text import as_html, shown_text
from emma_viz.errors import EmmaVizError, InputError
from emma_viz.session.case_report.content import contents
from emma_viz.session.case_report.page import cases_page
from emma_viz.session.case_report.pdf import cases_pdf

MOST_SENT = 200
"""Cases of one document."""
_MEDIA_TYPES = {"pdf": "application/pdf", "html": "text/html; charset=utf-8"}


def document_links(what: str, name: str, address: Mapping[str, str]) -> str:
    """HTML of the links that save cases.

    Args:
        what: is saved, in words.
        name: of the files, without their endings.
        address: a case as `id`, or the filter whose first `MOST_SENT` cases are saved.
    """
    asked = as_html(urlencode(address))
    links = "".join(
        f'<a class="cb-save" href="{DOCUMENT_PATH.lstrip("/")}{name}.{ending}?{asked}">Save {as_html(what)} as '
        f"{ending.upper()}</a>"
        for ending in _MEDIA_TYPES
    )
    return f'<p class="cb-saves">{links}</p>'


def document_routes() -> list[Route]:
    """What answers the addresses of documents."""
    return [Route(f"{DOCUMENT_PATH}{{stem}}.{{ending}}", _document, methods=["GET"])]


def _document(request: Request) -> Response:
    """One document; on a thread of its own."""
    stem, ending = request.path_params["stem"], request.path_params["ending"]
    try:
        if ending not in _MEDIA_TYPES or not stem.replace("-", "").isalnum() or not stem.isascii():
            raise InputError("expected the name of a document that ends in .pdf or .html.")
        content = _made(request.query_params, ending)
    except EmmaVizError as error:
        return PlainTextResponse(shown_text(str(error)), HTTPStatus.NOT_FOUND)
    saved = {"content-disposition": f'attachment; filename="{stem}.{ending}"', "cache-control": "no-store"}
    return Response(content, media_type=_MEDIA_TYPES[ending], headers=saved)


def _made(address: Mapping[str, str], ending: str) -> bytes:
    casebook = shared_casebook()
    ids = [address["id"]] if "id" in address else casebook.ids(filter_of(address), count=MOST_SENT)
    found = contents(casebook, ids)
    if ending == "pdf":
        return cases_pdf(found)
    if len(found) > 1:
        return cases_page(found).encode("utf-8")
    (only,) = found
    shown = case_maps().of(only.case.record, None if only.picture is None else only.picture.image())
    notes = [shown_text(note) for note in shown.notes]
    return cases_page(found, payload=shown.payload, notes=notes).encode("utf-8")
