"""What the pages tell a reader to type: every command and every Python snippet, with its page and line."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emma_viz.cli.main import COMMANDS
from emma_viz.cli.programs import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(path for path in sorted(DOCS.rglob("*.md")) if "decisions" not in path.parts)]
"""What a reader reads; decisions say what was done, and tell nobody to do it."""
PROGRAM = re.compile(r"emma-viz|python -m|accelerate launch|scripts/|pip install|jupyter ")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
ENVIRONMENT = re.compile(r"^(\w+=\S+ +)+")


@dataclass(frozen=True)
class Step:
    """One thing to type."""

    page: str
    line: int
    language: str
    """bash or python."""
    text: str

    @property
    def words(self) -> list[str]:
        """Those of a command, without variables of the environment and comments."""
        return shlex.split(ENVIRONMENT.sub("", self.text), comments=True)


def steps(path: Path) -> list[Step]:
    """All of a page, in its order."""
    text = path.read_text("utf-8")
    page = path.relative_to(ROOT).as_posix()
    found: list[Step] = []
    for start, language, code in _code(text):
        if language == "python":
            found.append(Step(page, start, language, code))
        for number, line in _lines(code) if language == "bash" else ():
            found.append(Step(page, start + number, language, line))
    return found


def _code(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, language and text of the blocks, and of the commands in sentences."""
    found = [(match.start(), match[1], match[2]) for match in FENCE.finditer(text)]
    prose = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for match in INLINE.finditer(prose):
        said = " ".join(match[1].split())
        # "made by `…` at commit …" says what was done, and tells nobody to do it.
        if _is_command(said) and not prose.startswith(" at commit ", match.end()):
            found.append((match.start(), "bash", f"{said}\n"))
    return iter([(text.count("\n", 0, at) + 1, language, code) for at, language, code in sorted(found)])


def _is_command(said: str) -> bool:
    """Whether a sentence's code is typed: `emma-viz fit` is a name, `emma-viz fit MODEL --untrained 5` a command."""
    name, *rest = ENVIRONMENT.sub("", said).split() or [""]
    if name == "emma-viz" and rest:
        return len(rest) > 1 + (rest[0] in ("train", "benchmark", "cases")) and rest[0] in {
            *COMMANDS,
            *PROGRAMS,
        }
    return PROGRAM.match(said) is not None and len(rest) > 1 and not re.search(r"\w…$", said)


def _lines(code: str) -> Iterator[tuple[int, str]]:
    """Each command of a block, those that go on in the next line whole."""
    whole, first = "", 0
    for number, line in enumerate(code.splitlines(), start=1):
        whole, first = (whole + line.strip(), first) if whole else (line.strip(), number)
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        said = re.sub(r"(^|\s)#.*", "", whole).strip()
        if said:
            yield first, " ".join(said.split())
        whole = ""
