"""Words for COCO's 80 objects: a table of our own, to find the objects that a description names.

It is not the list of the CHAIR paper, which has no licence: scores by the two differ a little.
"""

from functools import lru_cache

from emma_viz.records.objects import ObjectWords

WORDS: dict[str, str] = {
    "person": "person man woman child boy girl kid baby toddler infant guy lady gentleman adult teenager pedestrian "
    "player batter pitcher catcher umpire skier snowboarder surfer skateboarder skater rider cyclist bicyclist biker "
    "motorcyclist driver passenger spectator chef waiter waitress policeman police-officer officer soldier worker "
    "bride groom couple crowd tourist shopper swimmer golfer cowboy friend mother father son daughter brother sister "
    "husband wife student teacher vendor",
    "bicycle": "bicycle bike cycle tricycle",
    "car": "car automobile sedan suv van minivan taxi cab jeep convertible hatchback limousine",
    "motorcycle": "motorcycle motorbike motor-bike motor-cycle moped scooter dirt-bike",
    "airplane": "airplane plane aeroplane aircraft jet jetliner airliner biplane seaplane",
    "bus": "bus minibus trolley-bus double-decker coach-bus school-bus",
    "train": "train locomotive tram subway passenger-train freight-train train-car railcar streetcar",
    "truck": "truck pickup lorry fire-truck firetruck tow-truck semi-truck trailer-truck dump-truck pickup-truck",
    "boat": "boat ship sailboat canoe kayak yacht ferry raft rowboat gondola speedboat barge",
    "traffic light": "traffic-light traffic-signal stop-light stoplight street-signal",
    "fire hydrant": "fire-hydrant hydrant fireplug",
    "stop sign": "stop-sign",
    "parking meter": "parking-meter",
    "bench": "bench pew",
    "bird": "bird duck goose swan seagull gull pigeon parrot owl eagle hawk crow chicken hen rooster turkey peacock "
    "ostrich penguin pelican flamingo sparrow heron robin parakeet dove",
    "cat": "cat kitten kitty",
    "dog": "dog puppy hound poodle terrier retriever bulldog pug dachshund chihuahua",
    "horse": "horse pony foal mare stallion colt",
    "sheep": "sheep lamb ram ewe",
    "cow": "cow bull calf cattle ox",
    "elephant": "elephant",
    "bear": "bear panda",
    "zebra": "zebra",
    "giraffe": "giraffe",
    "backpack": "backpack knapsack rucksack",
    "umbrella": "umbrella parasol",
    "handbag": "handbag purse",
    "tie": "tie necktie bow-tie bowtie",
    "suitcase": "suitcase luggage suit-case",
    "frisbee": "frisbee flying-disc",
    "skis": "skis ski",
    "snowboard": "snowboard snow-board",
    "sports ball": "sports-ball ball baseball basketball football soccer-ball tennis-ball volleyball",
    "kite": "kite",
    "baseball bat": "baseball-bat",
    "baseball glove": "baseball-glove baseball-mitt mitt catcher-mitt",
    "skateboard": "skateboard skate-board",
    "surfboard": "surfboard surf-board paddleboard bodyboard",
    "tennis racket": "tennis-racket tennis-racquet racket racquet",
    "bottle": "bottle",
    "wine glass": "wine-glass wineglass goblet champagne-glass",
    "cup": "cup mug teacup coffee-cup",
    "fork": "fork",
    "knife": "knife pocketknife",
    "spoon": "spoon teaspoon tablespoon",
    "bowl": "bowl",
    "banana": "banana",
    "apple": "apple",
    "sandwich": "sandwich burger hamburger cheeseburger",
    "orange": "orange",
    "broccoli": "broccoli",
    "carrot": "carrot",
    "hot dog": "hot-dog hotdog",
    "pizza": "pizza",
    "donut": "donut doughnut",
    "cake": "cake cupcake cheesecake birthday-cake",
    "chair": "chair armchair recliner stool highchair seat",
    "couch": "couch sofa loveseat futon settee",
    "potted plant": "potted-plant houseplant house-plant",
    "bed": "bed",
    "dining table": "dining-table table desk dinner-table kitchen-table coffee-table",
    "toilet": "toilet urinal commode toilet-seat",
    "tv": "tv television tv-set",
    "laptop": "laptop notebook-computer laptop-computer",
    "mouse": "mouse computer-mouse",
    "remote": "remote remote-control wii-remote game-controller",
    "keyboard": "keyboard",
    "cell phone": "cell-phone cellphone phone mobile-phone smartphone smart-phone telephone iphone",
    "microwave": "microwave",
    "oven": "oven stove",
    "toaster": "toaster",
    "sink": "sink",
    "refrigerator": "refrigerator fridge freezer",
    "book": "book",
    "clock": "clock",
    "vase": "vase",
    "scissors": "scissors",
    "teddy bear": "teddy-bear teddy stuffed-bear",
    "hair drier": "hair-drier hair-dryer hairdryer blow-dryer",
    "toothbrush": "toothbrush tooth-brush",
}
"""Object → words in the singular; a dash parts those of one name."""
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_NOTHING = (
    "baseball field",
    "baseball game",
    "couple of",
    "crowd of",
    "pitcher of",
    "water pitcher",
    "glass pitcher",
    "milk pitcher",
    "bird house",
    "bird feeder",
    "bird bath",
    "orange sky",
    "orange shirt",
    "orange vest",
    "orange jacket",
    "orange hat",
    "orange cone",
    "remote beach",
    "remote area",
    "remote location",
    "remote place",
    "baseball player uniform",
    "football field",
    "tennis court",
    "cup holder",
    "bus stop",
    "bus station",
    "train station",
    "train track",
    "car seat",
    "dog house",
    "cow boy hat",
    "apple computer",
    "orange color",
    "orange juice",
    "table cloth",
    "table lamp",
    "bed sheet",
    "bed room",
    "boat dock",
    "phone booth",
    "book shelf",
)
"""Sayings with one of the words that name none of the objects (or another than the word alone)."""


@lru_cache(maxsize=256)
def coco_and(names: tuple[str, ...] = ()) -> ObjectWords:
    """COCO's objects by all their words, and further ones by their names alone."""
    table = {name: [word.replace("-", " ") for word in words.split()] for name, words in WORDS.items()}
    return ObjectWords({name: (name,) for name in names} | table, nothing=_NOTHING, animals=ANIMALS)


COCO = coco_and()
"""Asked which of COCO's objects a text names."""
