"""The casebook's page as a server: Streamlit behind a gate, set so that it tells nobody and asks nobody."""

import getpass
import json
import os
import shlex
import socket
import webbrowser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from apps.casebook.gate import OWN_NAMES, CasebookGate
from apps.casebook.told import CASEBOOK_EXPLORER, CASEBOOK_MODELS, CASEBOOK_PERSON, CASEBOOK_PLACE
from apps.explorer.gate import name_of
from emma_viz.errors import InputError, MissingDependencyError

_EXPLORERS = "http://127.0.0.1:7860"
"""Where the explorer is when nobody says otherwise."""

SETTINGS: Mapping[str, str | bool | int] = MappingProxyType(
    {
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "global.developmentMode": False,
        "server.enableCORS": True,
        "server.enableStaticServing": False,
        "server.enableXsrfProtection": True,
        "server.fileWatcherType": "none",
        "server.headless": True,
        "runner.magicEnabled": False,
        "runner.postScriptGC": False,  # a look through all of PyTorch's objects, before the page is told to be done
        "server.maxUploadSize": 1,
        "logger.level": "warning",
        "theme.font": "sans-serif",
        "theme.headingFont": "sans-serif",
        "theme.baseRadius": "8px",
        "theme.showWidgetBorder": True,
        "theme.light.primaryColor": "#0b5c94",
        "theme.light.backgroundColor": "#ffffff",
        "theme.light.secondaryBackgroundColor": "#f6f6f3",
        "theme.light.textColor": "#1a1b1e",
        "theme.light.borderColor": "#dddcd7",
        "theme.dark.primaryColor": "#7cc0f2",
        "theme.dark.backgroundColor": "#141518",
        "theme.dark.secondaryBackgroundColor": "#1d1f23",
        "theme.dark.textColor": "#eceae6",
        "theme.dark.borderColor": "#34363c",
    }
)
"""Streamlit's settings: no statistics, no details of errors, no files served, the explorer's colours."""


def free_port(host: str, ports: Iterable[int]) -> int:
    """The first port that nobody listens on.

    Raises:
        InputError: there is none, or the address is none of this machine's.
    """
    failure: OSError | None = None
    for port in ports:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
            try:
                one.bind((host, port))
                return port
            except OSError as error:
                failure = error
    raise InputError(f"The page cannot be served at {host}: {failure}. Choose another --host or --port.")


def serve_casebook(
    casebook: str,
    *,
    models: Mapping[str, str],
    host: str,
    port: int,
    allowed: Sequence[str],
    show: bool,
    explorer: str,
    shown: str,
) -> None:
    """Serve the page until the process is told to end.

    Args:
        casebook: path or URL of the casebook.
        models: name of a model in the casebook → where its weights are.
        host: address to listen on.
        port: where.
        allowed: further names under which the page is served.
        show: whether a browser is opened.
        explorer: address of an explorer that knows this casebook; "" where the page shall say how to start one.
        shown: path or URL without a password, for that.

    Raises:
        InputError: the port is taken.
        MissingDependencyError: Streamlit is not installed.
    """
    own = name_of(host) in OWN_NAMES and not allowed  # this machine's people alone come here
    os.environ.update(
        {
            CASEBOOK_PLACE: casebook,
            CASEBOOK_MODELS: json.dumps(dict(models)),
            CASEBOOK_EXPLORER: json.dumps(_explorer(shown, explorer, own=own)),
            CASEBOOK_PERSON: _person() if own else "",
        }
    )
    try:
        import uvicorn
        from streamlit.starlette import App
        from streamlit.web.bootstrap import load_config_options

        from apps.casebook.documents import document_routes
    except ImportError as error:
        raise MissingDependencyError(
            "streamlit", "open the casebook", 'pip install "emma-viz[casebook]"'
        ) from error
    port = free_port(host, [port])
    # As options of the command line, which go before every file of settings and the environment.
    load_config_options({**SETTINGS, "browser.serverAddress": host, "browser.serverPort": port})
    page = App(Path(__file__).with_name("page.py"), routes=document_routes())
    app = CasebookGate(page, hosts=[host], proxied=allowed)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    print(f"The casebook is at {address} (Ctrl+C ends it).", flush=True)
    if show:
        webbrowser.open(address)
    # Not compressed, as by Streamlit's own server: the maps of a case would take longer to pack than to send.
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,
    )


def _person() -> str:
    """Who runs this, also where the machine has no name for them, as in a container under any number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return f"user {os.getuid()}"


def _explorer(shown: str, address: str, *, own: bool) -> dict[str, str]:
    """What the page says of the explorer. To others than this machine's own people it gives no path and no address
    that is theirs alone."""
    if address:
        return {"address": address.rstrip("/")}
    if not own:
        return {}
    return {"address": _EXPLORERS, "start": f"emma-viz explore --casebook {shlex.quote(shown)}"}
