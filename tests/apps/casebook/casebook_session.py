"""A visitor of the casebook without a browser: it speaks the page's own protocol, and holds what stands on the page."""

import html
import re

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

from tests.apps.visiting import PATIENCE


class CasebookSession:
    """One session of a server; closed by `with`.

    Args:
        address: of the page, with its last slash.
    """

    def __init__(self, address: str):
        host = address.removeprefix("http://").rstrip("/")
        self._connection = connect(
            f"ws://{host}/_stcore/stream",
            origin=f"http://{host}",
            subprotocols=["streamlit"],
            compression=None,
            max_size=None,
        )
        self.query = self._page = ""
        self._elements: dict[tuple[int, ...], object] = {}
        self._pages: dict[str, str] = {}

    def __enter__(self) -> "CasebookSession":
        self._socket = self._connection.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._connection.__exit__(*failure)

    @property
    def html(self) -> str:
        """What the page says."""
        return "\n".join(each.html.body for each in self._of("html"))

    @property
    def warning(self) -> str:
        """What the page says went wrong; "" for nothing."""
        found = re.search(r'<p class="cb-warn" role="alert">(.*?)</p>', self.html, re.DOTALL)
        return html.unescape(found[1]) if found else ""

    def open(self, query: str = "") -> None:
        """Come to the first page."""
        self.query, self._page = query, ""
        self._run()

    def write(self, label: str, text: str) -> None:
        """Write into a field, and leave it."""
        self._run(WidgetState(id=self._field(label).id, string_value=text))

    def press(self, label: str, **written: str) -> None:
        """Press a button, with what was written into fields just before, by their labels."""
        button = next(each.button for each in self._of("button") if each.button.label == label)
        assert not button.disabled
        fields = [WidgetState(id=self._field(name).id, string_value=text) for name, text in written.items()]
        self._run(*fields, WidgetState(id=button.id, trigger_value=True))

    def follow(self, label: str) -> None:
        """Follow the first link of a name to another page."""
        found = re.search(rf'<a class="cb-open" href="(\w+)\?([^"]*)">{re.escape(label)}</a>', self.html)
        assert found is not None, f"no link {label!r}"
        self.query, self._page = html.unescape(found[2]), self._pages[found[1]]
        self._run()

    def _of(self, kind: str) -> list:
        return [each for _, each in sorted(self._elements.items()) if each.WhichOneof("type") == kind]

    def _field(self, label: str):
        fields = [getattr(each, kind) for kind in ("text_input", "text_area") for each in self._of(kind)]
        return next(each for each in fields if each.label == label)

    def _run(self, *widgets: WidgetState) -> None:
        """Let the page's script run, to its end."""
        said = BackMsg()
        asked = said.rerun_script
        asked.query_string, asked.page_script_hash = self.query, self._page
        asked.widget_states.widgets.extend(widgets)
        self._socket.send(said.SerializeToString())
        while not self._ended(ForwardMsg.FromString(self._socket.recv(timeout=PATIENCE / 1000))):
            pass

    def _ended(self, told: ForwardMsg) -> bool:
        kind = told.WhichOneof("type")
        assert kind != "ref_hash", "the server takes something for known"
        if kind == "new_session":
            self._elements.clear()
        elif kind == "delta" and told.delta.WhichOneof("type") == "new_element":
            self._elements[tuple(told.metadata.delta_path)] = told.delta.new_element
        elif kind == "page_info_changed":
            self.query = told.page_info_changed.query_string
        elif kind == "navigation":
            self._page = told.navigation.page_script_hash
            self._pages = {each.url_pathname: each.page_script_hash for each in told.navigation.app_pages}
        return kind == "script_finished" and told.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
