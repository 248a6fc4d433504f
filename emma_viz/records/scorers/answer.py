"""What a model said to one question, as scorers see it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer."""

    text: str
    """What was written, without special tokens and the white space around it."""
    p_yes: float | None = None
    """Probability of the token "Yes" as the first of the answer, over the vocabulary; None where it was not kept."""
    p_no: float | None = None
    """The same of "No"."""

    @property
    def leaning(self) -> float | None:
        """P(Yes) / (P(Yes) + P(No)); None where they were not kept, or are both 0."""
        if self.p_yes is None or self.p_no is None or self.p_yes + self.p_no == 0:
            return None
        return self.p_yes / (self.p_yes + self.p_no)
