"""One row of a benchmark: an image, a question, and what is true; whatever the file it came from looks like."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from emma_viz.errors import InputError

AskedFor = Literal["yes-no", "short", "description"]
"""What answers a question: yes or no; a word or two; a text that is judged by the objects it names."""
Key: TypeAlias = tuple[str, str]
"""(split, id): names a record within its benchmark."""

MISSPELLED = "misspelled"
"""Flag: the question holds a known misspelling; it is asked as it stands in the file."""
DISPUTED = "disputed"
"""Flag: the label was publicly reported to be wrong and still stands in the file."""
DUPLICATE = "duplicate"
"""Flag: the same image and question stood in this split before."""
MISSPELLINGS = {"imange": "image", "accroding": "according", "Accroding": "According"}
"""Words of published questions, and what they mean."""
CONTRADICTORY = "contradictory"
"""Flag: the same image and question has another label elsewhere."""


def spelled(question: str) -> str:
    """A question with known misspellings set right."""
    for wrong, right in MISSPELLINGS.items():
        question = question.replace(wrong, right)
    return question


@dataclass(frozen=True, kw_only=True)
class BenchmarkRecord:
    """One question of a benchmark."""

    benchmark: str
    """The name of the benchmark, as in `emma_viz.records.benchmarks.names`."""
    split: str
    """The part of it that has a line of its own in tables: POPE's "adversarial", MME's task; "" where there is none."""
    id: str
    """Names the record in its split."""
    asked: AskedFor
    """What kind of answer it wants."""
    question: str
    """As it stands in the file, without what a harness adds to it."""
    image: str | None
    """The image's path, relative to the benchmark's image folder; None for a question about no image."""
    truth: str = ""
    """ "yes" or "no"; the short answer; "" where a description is asked for."""
    present: tuple[str, ...] = ()
    """Objects that are there, for a description."""
    absent: tuple[str, ...] = ()
    """Objects that are known to be made up often and are not there, for a description."""
    object: str = ""
    """The object that is asked about, where the question has one; "" otherwise."""
    category: str = ""
    """A finer part than the split, such as HallusionBench's subcategory."""
    groups: tuple[tuple[str, str], ...] = ()
    """(kind, name): sets of records of which all must be right, such as HallusionBench's figures and pairs."""
    cluster: str = ""
    """Records of one cluster are not independent: intervals draw clusters. The image where it is not given."""
    flags: tuple[str, ...] = ()
    """What is known to be odd about it: MISSPELLED, DISPUTED, DUPLICATE, CONTRADICTORY."""
    where: str = ""
    """Its file and the line where it begins; "" for one that was in no file."""

    def __post_init__(self):
        if not self.cluster:
            object.__setattr__(self, "cluster", self.image or f"{self.split}/{self.id}")
        if self.asked == "yes-no" and self.truth not in ("yes", "no"):
            raise InputError(f"record {self.id!r}: expected the truth 'yes' or 'no', got {self.truth!r:.80}.")

    @property
    def key(self) -> Key:
        """(split, id)."""
        return self.split, self.id

    @property
    def same(self) -> tuple[str, str, str]:
        """(image, cluster, question): records that have it in common ask the same thing; known misspellings are set
        right. A record whose image nobody named is told from others by its cluster, which is its own where none was
        given."""
        return self.image or "", self.cluster, spelled(self.question)

    def group(self, kind: str) -> str | None:
        """The name of its group of one kind; None where it is in none."""
        return dict(self.groups).get(kind)


@dataclass(frozen=True, kw_only=True)
class RecordSet:
    """The records of a benchmark's files, and what came with them."""

    benchmark: str
    """The name of the benchmark."""
    records: tuple[BenchmarkRecord, ...]
    """In the order of the files; no two have the same key."""
    said: Mapping[Key, str]
    """Answers that stood beside the questions, as in MME's result files."""
    complaints: tuple[str, ...]
    """Each row that was left out: its file, its line, and what is wrong with it."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, in the order in which they come."""
        return tuple(dict.fromkeys(record.split for record in self.records))

    @property
    def distinct(self) -> tuple[BenchmarkRecord, ...]:
        """Of records that ask the same thing about the same image, the first of all splits."""
        found: dict[tuple[str, str, str], BenchmarkRecord] = {}
        for record in self.records:
            found.setdefault(record.same, record)
        return tuple(found.values())
