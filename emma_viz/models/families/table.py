"""The families that there are: our own, then those of installed packages."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from emma_viz.errors import InputError
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.cobra import COBRA
from emma_viz.models.families.emma import EMMA
from emma_viz.models.families.emma_text_fusion import EMMA_TEXT_FUSION
from emma_viz.models.families.family import Family
from emma_viz.models.families.llava import LLAVA
from emma_viz.models.families.llava_like import LlavaLikeFamily
from emma_viz.models.families.matvlm import MATVLM
from emma_viz.models.families.ml_mamba import ML_MAMBA
from emma_viz.models.families.mmmamba import MMMAMBA, MmMambaFamily
from emma_viz.models.families.mobilevlm_v2 import MOBILEVLM_V2
from emma_viz.models.families.official import OfficialFamily
from emma_viz.models.families.tinyllava import TINYLLAVA
from emma_viz.models.families.tinyllava_factory import FactoryFamily
from emma_viz.models.families.vl_mamba import VL_MAMBA
from emma_viz.plugins import Plugins

logger = logging.getLogger(__name__)

OUR_FAMILIES: dict[str, OfficialFamily | LlavaLikeFamily | FactoryFamily | MmMambaFamily] = {
    "cobra": COBRA,
    "emma": EMMA,
    "ml-mamba": ML_MAMBA,
    "llava": LLAVA,
    "emma-text-fusion": EMMA_TEXT_FUSION,
    "vl-mamba": VL_MAMBA,
    "mobilevlm-v2": MOBILEVLM_V2,
    "tinyllava": TINYLLAVA,
    "matvlm": MATVLM,
    "mmmamba": MMMAMBA,
}
"""Our own. Cobra, whose layout the others write, takes the run directories that no other takes for its own."""

_PLUGINS = Plugins(
    group="emma_viz.families",
    what="family of models",
    expected=Family,
    ours=OUR_FAMILIES,
    error=InputError,
)


def family_names() -> tuple[str, ...]:
    """Names of all families."""
    return _PLUGINS.names()


def family_named(name: str) -> Family:
    """One family.

    Raises:
        InputError: there is none of that name, or the package that brings it cannot be imported.
    """
    return OUR_FAMILIES.get(name) or _PLUGINS.bring(name)


def family_of_run(model_id: str) -> OfficialFamily:
    """The family of an official run directory."""
    official = (family for family in OUR_FAMILIES.values() if isinstance(family, OfficialFamily))
    claiming = [family for family in official if family.claims(model_id)]
    return next((family for family in claiming if family is not COBRA), COBRA)


def described_elsewhere(values: Mapping[str, Any]) -> VLMConfig | None:
    """The model that a `config.json` describes in the form of a family of its own, ours or an installed package's; None
    where none knows it.

    Raises:
        InputError: two families know it, or the one that does describes it under another's name or refuses it.
    """
    families = (*OUR_FAMILIES.values(), *brought())
    found = [(family, config) for family in families if (config := family.describe(values)) is not None]
    if len(found) > 1:
        raise InputError(
            f"Several families take this config.json for their own: {', '.join(family.name for family, _ in found)}; "
            "uninstall the packages of all but one."
        )
    for family, config in found:
        if config.family != family.name:
            raise InputError(
                f"The family {family.name!r} described a model of the family {config.family!r}; expected its own name."
            )
        return config
    return None


def brought() -> Iterator[Family]:
    """The families of installed packages; one that cannot be imported is passed over, and the log says so."""
    for name in family_names():
        if name not in OUR_FAMILIES:
            try:
                yield _PLUGINS.bring(name)
            except InputError as error:
                logger.warning("%s", error)
