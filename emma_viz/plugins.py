"""What installed packages bring under a name of their own: the entry points of a group, beside what is ours."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata
from typing import Generic, TypeVar

from emma_viz.errors import EmmaVizError

logger = logging.getLogger(__name__)

Brought = TypeVar("Brought")


@dataclass(frozen=True, kw_only=True)
class Plugins(Generic[Brought]):
    """One group of entry points: the name of each is a user's word, its object what that word stands for."""

    group: str
    """The group, as a package's pyproject.toml names it."""
    what: str
    """What one of them is, in words."""
    expected: type[Brought]
    """The class of the objects."""
    ours: Collection[str]
    """The names of this package's own, which no other package can take."""
    error: type[EmmaVizError]
    """Raised where a name has nothing behind it, or the wrong thing."""

    def names(self) -> tuple[str, ...]:
        """The names there are: ours, then those of installed packages."""
        return (*self.ours, *sorted(self._points()))

    def __contains__(self, name: str) -> bool:
        """Whether there is one of that name; for one of ours, the installed packages are not asked."""
        return name in self.ours or name in self._points()

    def bring(self, name: str) -> Brought:
        """What an installed package brings under a name that is none of ours.

        Args:
            name: the entry point's.

        Raises:
            EmmaVizError: of the class `error`: there is no such name, the package that brings it cannot be imported,
                or its object is of another class.
        """
        point = self._points().get(name)
        if point is None:
            raise self.error(
                f"There is no {self.what} {name!r}; choose one of {', '.join(self.names())}, or install the package "
                f"that brings it (entry points of the group {self.group})."
            )
        try:
            found = point.load()
        except Exception as error:  # code of a package that we do not know
            raise self.error(
                f"The {self.what} {name!r} is brought by {point.value}, which fails: {error}"
            ) from error
        if not isinstance(found, self.expected):
            raise self.error(
                f"The {self.what} {name!r} is brought by {point.value}; expected a {self.expected.__name__} there, "
                f"got a {type(found).__name__}."
            )
        return found

    def _points(self) -> dict[str, metadata.EntryPoint]:
        """Entry points by name. One that is called as one of ours is passed over, and the log says so."""
        found = {}
        for point in metadata.entry_points(group=self.group):
            if point.name in self.ours or point.name in found:
                logger.warning(
                    "the %s %r of %s is passed over: there is one already", self.what, point.name, point.value
                )
            else:
                found[point.name] = point
        return found
