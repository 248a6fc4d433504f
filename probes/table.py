"""The probes that there are: ours, those of installed packages, and one from a file."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from emma_viz.capture.sites import nearest
from emma_viz.errors import InputError
from emma_viz.plugins import Plugins
from probes.causes.attribution import AttributionProbe
from probes.causes.exchange import ExchangeProbe
from probes.causes.flow import Flow
from probes.causes.frozen_parts import FrozenParts
from probes.causes.implicit import Implicit
from probes.causes.knockout import Knockout
from probes.causes.patching import Patching
from probes.causes.prompts import Prompts
from probes.causes.travel import Travel
from probes.causes.trust import Trust
from probes.content.geometry import GeometryProbe
from probes.content.instruction import InstructionProbe
from probes.content.patch_classes import PatchClasses
from probes.content.retention import Retention
from probes.content.sinks import Sinks
from probes.content.speckle import Speckle
from probes.content.words import Words
from probes.ledger import keep_source
from probes.protocol import Probe

PROBES: dict[str, Callable[[], Probe]] = {
    "retention": Retention,
    "geometry": GeometryProbe,
    "speckle": Speckle,
    "patches": PatchClasses,
    "sinks": Sinks,
    "words": Words,
    "travel": Travel,
    "implicit": Implicit,
    "frozen": FrozenParts,
    "knockout": Knockout,
    "flow": Flow,
    "patching": Patching,
    "exchange": ExchangeProbe,
    "prompts": Prompts,
    "attribution": AttributionProbe,
    "trust": Trust,
    "instruction": InstructionProbe,
}
"""Name → what makes the probe, in the order of the report."""
_PLUGINS = Plugins(group="emma_viz.probes", what="probe", expected=type, ours=PROBES, error=InputError)
"""Classes of probes that other packages bring, each made without arguments."""


def known() -> dict[str, Callable[[], Probe]]:
    """All probes by name: ours first. One of a package is loaded when it is made."""
    return {name: PROBES.get(name) or (lambda name=name: _PLUGINS.bring(name)()) for name in _PLUGINS.names()}


def chosen(names: Sequence[str] | None) -> tuple[Probe, ...]:
    """The probes of those names; all when None. A name that ends in .py is a file with a `PROBE` in it.

    Raises:
        InputError: there is no such probe, or it is none.
    """
    table = known()
    found = []
    for name in table if names is None else names:
        file = Path(name) if name.endswith(".py") else None
        if file is not None:
            probe = _of_file(file)
        elif name in table:
            probe = table[name]()
        else:
            raise InputError(
                f"There is no probe {name!r}. {nearest(name, table)} Probes: {', '.join(table)}; or a file my_probe.py."
            )
        if not isinstance(probe, Probe):
            raise InputError(
                f"{name}: expected a probe (see probes.protocol.Probe), got {type(probe).__name__}."
            )
        keep_source(probe, file)
        found.append(probe)
    if len({probe.name for probe in found}) < len(found):
        raise InputError(f"Each probe is named once; got {', '.join(probe.name for probe in found)}.")
    return tuple(found)


def _of_file(path: Path) -> object:
    """The `PROBE` of a Python file, which is run: it is the user's own."""
    spec = importlib.util.spec_from_file_location(f"probe {path.resolve()}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(f"{path}: expected a Python file with a probe; check the path.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the file of a class is looked up
    spec.loader.exec_module(module)
    if not hasattr(module, "PROBE"):
        raise InputError(
            f"{path}: expected the probe under the name PROBE; see docs/extending/add-a-probe.md."
        )
    return module.PROBE() if isinstance(module.PROBE, type) else module.PROBE
