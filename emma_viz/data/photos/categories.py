"""The categories of Caltech-101 that photographs are of, with the names that people give them."""

from dataclasses import dataclass

_NAMES = """
Leopards leopard; Motorbikes motorbike; airplanes airplane; bass bass fish;
binocular pair of binoculars, pairs of binoculars; brain brain; brontosaurus brontosaurus;
buddha buddha statue, buddha statues; butterfly butterfly, butterflies; car_side car;
ceiling_fan ceiling fan; cellphone cell phone; cougar_body cougar; cougar_face cougar head;
crocodile_head crocodile head; dollar_bill dollar bill; dragonfly dragonfly, dragonflies;
electric_guitar electric guitar; euphonium euphonium; ferry ferry, ferries; flamingo_head flamingo head;
garfield Garfield figure; grand_piano grand piano; hawksbill sea turtle;
headphone pair of headphones, pairs of headphones; ibis ibis, ibises; inline_skate inline skate;
joshua_tree Joshua tree; lobster lobster; lotus lotus flower; mayfly mayfly, mayflies;
nautilus nautilus, nautiluses; octopus octopus, octopuses; platypus platypus, platypuses; rhino rhino;
scissors pair of scissors, pairs of scissors; sea_horse seahorse; snoopy Snoopy figure;
soccer_ball soccer ball; starfish starfish, starfish; stegosaurus stegosaurus, stegosauruses;
stop_sign stop sign; strawberry strawberry, strawberries; water_lilly water lily, water lilies;
watch watch, watches; wild_cat wildcat; windsor_chair Windsor chair; wrench wrench, wrenches;
yin_yang yin-yang symbol
"""
"""Folder, name, and the plural where an "s" does not make it; folders that are their own name are not listed."""

_FOLDERS = """
Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai brain brontosaurus
buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body cougar_face crab
crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu
euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone
hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin
mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver
rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus
stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair
wrench yin_yang
"""

_IRREGULAR = {
    "brontosaurus": "brontosauruses",
    "crayfish": "crayfish",
    "bass fish": "bass fish",
    "ketch": "ketches",
}


@dataclass(frozen=True, kw_only=True)
class Category:
    """What a photograph is of.

    Attributes:
        folder: the name of its folder in the published set.
        name: the name that people give it, in the singular: "grand piano".
        plural: the same in the plural.
    """

    folder: str
    name: str
    plural: str

    @property
    def one(self) -> str:
        """The name with its article: "an anchor", "a euphonium"."""
        sounds_like_a_consonant = self.name.startswith(("eu", "ew"))
        return f"{'an' if self.name[0] in 'aeiou' and not sounds_like_a_consonant else 'a'} {self.name}"


def _categories() -> tuple[Category, ...]:
    named: dict[str, tuple[str, str]] = {}
    for entry in " ".join(_NAMES.split()).split("; "):
        folder, _, rest = entry.strip().partition(" ")
        name, _, plural = rest.partition(", ")
        named[folder] = (name, plural)
    found = []
    for folder in _FOLDERS.split():
        name, plural = named.get(folder, (folder, ""))
        found.append(Category(folder=folder, name=name, plural=plural or _IRREGULAR.get(name, f"{name}s")))
    return tuple(found)


PHOTO_CATEGORIES: tuple[Category, ...] = _categories()
"""All of them, in the order of their folders."""

CATEGORY_INDEX: dict[str, int] = {category.name: number for number, category in enumerate(PHOTO_CATEGORIES)}
"""Name → number."""
