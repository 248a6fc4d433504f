"""The vocabulary of the tabletop world: kinds of object, colours, surfaces, and what goes with what."""

from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (246, 137, 24),
    "yellow": (250, 214, 48),
    "green": (52, 158, 68),
    "blue": (40, 98, 206),
    "purple": (132, 66, 184),
    "pink": (246, 148, 190),
    "white": (240, 240, 236),
    "black": (44, 44, 50),
}
"""Name → RGB (0–255) of every colour that an object can have."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of object.

    Attributes:
        name: singular, as it appears in sentences.
        plural: plural form.
        palette: names of the colours it comes in; empty when the kind has one fixed look and no colour is said.
        tilt: largest rotation to either side, degrees (180 for things that lie flat).
        companions: names of kinds that often share a scene with it (for "bar" and "line": the other form of chart).
        weight: how often it is laid on a table, against the others; 0 for what only charts show.
    """

    name: str
    plural: str
    palette: tuple[str, ...] = tuple(COLOURS)
    tilt: int = 30
    companions: tuple[str, ...] = ()
    weight: float = 1.0


KINDS: tuple[Kind, ...] = (
    Kind(name="cup", plural="cups", companions=("spoon", "teapot", "donut", "cake"), weight=2.6),
    Kind(name="plate", plural="plates", tilt=180, companions=("fork", "knife", "spoon", "pizza"), weight=3.0),
    Kind(name="bowl", plural="bowls", companions=("spoon", "apple", "banana")),
    Kind(name="bottle", plural="bottles", companions=("plate", "cup", "bowl")),
    Kind(name="teapot", plural="teapots", companions=("cup", "cake", "flower")),
    Kind(name="spoon", plural="spoons", tilt=180, companions=("bowl", "cup", "fork"), weight=1.6),
    Kind(name="fork", plural="forks", tilt=180, companions=("plate", "knife", "pizza"), weight=2.8),
    Kind(name="knife", plural="knives", tilt=180, companions=("plate", "fork", "apple")),
    Kind(name="pizza", plural="pizzas", palette=(), tilt=180, companions=("plate", "fork", "bottle")),
    Kind(name="cake", plural="cakes", companions=("candle", "plate", "fork")),
    Kind(name="donut", plural="donuts", tilt=180, companions=("cup", "plate", "cake")),
    Kind(
        name="apple",
        plural="apples",
        palette=("red", "green", "yellow"),
        companions=("banana", "bowl", "knife"),
        weight=1.4,
    ),
    Kind(
        name="banana", plural="bananas", palette=("yellow", "green"), tilt=180, companions=("apple", "bowl")
    ),
    Kind(name="candle", plural="candles", companions=("cake", "flower", "lamp")),
    Kind(name="flower", plural="flowers", companions=("candle", "teapot", "hat")),
    Kind(name="book", plural="books", companions=("pencil", "lamp", "laptop"), weight=2.4),
    Kind(name="pencil", plural="pencils", tilt=180, companions=("book", "laptop", "phone")),
    Kind(name="laptop", plural="laptops", companions=("phone", "pencil", "cup")),
    Kind(name="phone", plural="phones", tilt=180, companions=("laptop", "key", "book"), weight=2.2),
    Kind(name="lamp", plural="lamps", companions=("book", "clock", "laptop"), weight=1.5),
    Kind(name="clock", plural="clocks", companions=("lamp", "phone", "key")),
    Kind(name="key", plural="keys", tilt=180, companions=("phone", "hat", "clock")),
    Kind(name="hat", plural="hats", companions=("key", "ball", "flower")),
    Kind(name="ball", plural="balls", tilt=180, companions=("hat", "bottle", "key")),
    Kind(name="bar", plural="bars", tilt=0, companions=("line",), weight=0.0),
    Kind(name="line", plural="lines", tilt=0, companions=("bar",), weight=0.0),
)
"""All kinds; the position in this tuple is a kind's number, and the order in which captions name objects."""

TABLE_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind.weight)
"""The kinds that lie on tables."""

BY_FREQUENCY: tuple[str, ...] = tuple(kind.name for kind in sorted(KINDS, key=lambda kind: -kind.weight))
"""Names of all kinds, the most frequent first; equally frequent ones in the order of KINDS."""

KIND_INDEX: dict[str, int] = {kind.name: i for i, kind in enumerate(KINDS)}
COLOUR_INDEX: dict[str, int] = {name: i for i, name in enumerate(COLOURS)}

SURFACES: dict[str, str] = {
    "solid": "on a plain table",
    "gradient": "on a plain table",
    "wood": "on a wooden table",
    "checker": "on a checked cloth",
    "photo": "in a photo",
}
"""Background → how captions say it."""
