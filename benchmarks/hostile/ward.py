"""A ward for hostile input: each trial runs in a process of its own, forked from a warm one, watched and bounded.

What a trial may do: read the samples, read and write in its own folder, and write caches. What counts as a fault: code
that was run, a file touched elsewhere, an exception that is none of emma_viz's, more than `SECONDS` of its own
processor time or `PATIENCE` on the clock, and more than `MEGABYTES` above what a sound file of its kind takes.
"""

import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emma_viz.errors import EmmaVizError

SECONDS = 5
"""Of processor time a file, above what a sound one of its kind takes."""
PATIENCE = 60
"""Seconds on the clock after which a trial that has not computed is taken for blocked; the machine may be busy."""
LONG = 10 * PATIENCE
"""Seconds on the clock after which it is stopped, even if it computes now and then."""
MEGABYTES = 500
"""Of memory a file, above what a sound one of its kind takes."""
KILLED_ABOVE = 3 << 30
"""Bytes at which a trial is stopped, so that the machine stays alive."""
LONGEST = 10_000
"""Characters of a refusal."""
PRINTED = 50_000
"""Characters that a trial may print, such as a line for each record that it leaves out."""
FAULTS = ("executed", "outside", "traceback", "hang", "memory", "unclear", "end state")
"""What a trial can do wrong."""

_RUNS_CODE = {
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
        "os.startfile",
    ),
    *("subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname"),
    *("webbrowser.open", "ftplib.connect", "urllib.Request", "builtins.input"),
}
_CHANGES = {
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("os.chown", "os.utime", "os.setxattr", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
}
_READERS = ("/emma_viz/", "/training/", "torch/serialization.py", "/pickle.py", "numpy/lib/")
"""Files that read strangers' files: none of them may compile or run code."""
_HARMLESS_PICKLED = ("torch", "collections", "numpy", "_codecs")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One hostile input and what is done with it."""

    name: str
    """Says what is wrong with it; the same for the same seed."""
    kind: str
    """Trials of one kind are measured against its sound trial."""
    folder: Path
    """Its own folder, in which it runs; removed afterwards."""
    check: Callable[[], object]
    """Done in the forked process. A 1 is a refusal that was printed; a text is a complaint."""
    names: tuple[str, ...] = ()
    """A refusal must hold one of these: the file's name or its folder's."""
    sound: bool = False
    """Whether nothing is wrong with it: it must end well, and what it takes is what the program itself takes."""
    where: tuple[Path, ...] = ()
    """Further folders that belong to it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended."""

    name: str
    kind: str
    ended: str
    """`accepted`, `refused` or `fault`."""
    faults: dict[str, str] = field(default_factory=dict)
    """Fault → what was seen."""
    seconds: float = 0.0
    """Of processor time."""
    megabytes: float = 0.0
    """The most memory that it held at once, above that of the process that it was forked from."""
    said: str = ""
    """Its last words."""


@dataclass
class _Running:
    trial: Trial
    answer: int
    log: Path
    began: float
    before: float
    """Megabytes of the process that it was forked from."""
    stopped: str = ""
    ticks: int = 0
    """What it had computed when it was last seen to compute."""
    computed: float = 0.0
    """When that was."""


class Ward:
    """Runs trials, several at once.

    Args:
        root: a new folder; all that trials see lies in it.
        shared: folders in `root` that every trial may read.
        caches: folders that may be written to.
        jobs: trials at once.
    """

    def __init__(
        self, root: Path, *, shared: Iterable[Path] = (), caches: Iterable[Path] = (), jobs: int = 2
    ):
        self.root, self.jobs = root.resolve(), jobs
        self.shared = tuple(path.resolve() for path in shared)
        self.caches = tuple(path.resolve() for path in caches)
        self.canary = self.root / "somebody-else"
        self.sound: dict[str, Outcome] = {}
        (self.canary / "thesis").mkdir(parents=True)
        (self.canary / "thesis" / "chapter.txt").write_text("years of work\n")
        (self.canary / "private.png").write_bytes(b"private")
        for path in self.canary.rglob("*"):
            os.utime(path, ns=(10**18, 10**18))
        self._before = self._look()

    def run(self, trials: Iterable[Trial]) -> Iterator[Outcome]:
        """Run trials; a sound one of each kind must come before the others of its kind.

        Raises:
            RuntimeError: a sound trial did not end well, so that nothing could be said of its kind.
        """
        source, running = iter(trials), {}
        more = True
        while more or running:
            while more and len(running) < self.jobs:
                trial = next(source, None)
                if trial is None:
                    more = False
                    break
                running |= self._start(trial)
                if trial.sound:  # the others are measured against it
                    break
            if not running:
                break
            while running and (
                len(running) >= self.jobs or not more or any(r.trial.sound for r in running.values())
            ):
                yield from self._ended(running)

    def _ended(self, running: dict[int, _Running]) -> Iterator[Outcome]:
        for child, each in list(running.items()):
            done, status, used = os.wait4(child, os.WNOHANG)
            if done:
                del running[child]
                yield self._judge(each, status, used, child)
            elif blocked := _blocked(each, child):
                each.stopped = each.stopped or blocked
                stop(child)
            elif _resident(child) > KILLED_ABOVE:
                each.stopped = each.stopped or f"more than {KILLED_ABOVE >> 20} MB"
                stop(child)
        time.sleep(0.003)

    def _start(self, trial: Trial) -> dict[int, _Running]:
        trial.folder.mkdir(parents=True, exist_ok=True)
        log = self.root / f"log-{time.monotonic_ns()}"
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        before = _resident(os.getpid()) / 2**20
        child = os.fork()
        if not child:
            os.close(reading)
            self._be_the_trial(trial, writing, log)
        os.close(writing)
        now = time.monotonic()
        return {child: _Running(trial, reading, log, now, before, computed=now)}

    def _be_the_trial(self, trial: Trial, writing: int, log: Path) -> None:
        answer: dict[str, object] = {"ended": "fault", "text": "", "trace": ""}
        seen: list[tuple[str, str]] = []
        try:
            os.setsid()
            _redirect(log)
            os.chdir(trial.folder)
            limit = SECONDS + int(self.sound[trial.kind].seconds + 1 if trial.kind in self.sound else 55)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
            sys.addaudithook(self._watch(trial, seen))
            result = trial.check()
            answer |= {"ended": "refused" if result == 1 else "accepted"}
            if isinstance(result, str):
                answer |= {"ended": "fault", "text": result}
        except EmmaVizError as error:
            answer |= {"ended": "refused", "text": str(error)}
        except BaseException:
            answer |= {"trace": traceback.format_exc()[-3000:]}
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            answer["seen"] = [(kind, what[:300]) for kind, what in dict.fromkeys(seen)][:10]
            answer["length"], answer["text"] = len(str(answer["text"])), str(answer["text"])[:LONGEST]
            os.write(writing, json.dumps(answer).encode())  # less than a pipe holds
            os._exit(0)

    def _watch(self, trial: Trial, seen: list[tuple[str, str]]) -> Callable[[str, tuple], None]:
        own = tuple(str(path.resolve()) for path in (trial.folder, *trial.where))
        may_read = (*own, *map(str, self.shared))
        may_write = (*own, "/dev/null", "/dev/shm", "/proc/self", *map(str, self.caches))
        root = str(self.root)

        def beneath(path: str, folders: tuple[str, ...]) -> bool:
            return any(path == folder or path.startswith(folder + "/") for folder in folders)

        def touched(path, *, changes: bool) -> None:
            if isinstance(path, int) or path is None:
                return
            real = os.path.realpath(os.fsdecode(path))
            if beneath(real, may_write) or (
                not changes and (beneath(real, may_read) or not beneath(real, (root,)))
            ):
                return
            seen.append(("outside", f"{'changed' if changes else 'read'} {real}"))

        def hook(event: str, args: tuple) -> None:
            if event == "open":
                path, mode, flags = args
                writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
                touched(path, changes=writes or bool(mode and set(mode) & set("wax+")))
            elif event in _CHANGES:
                for path in args[:2] if event in ("os.rename", "os.link", "shutil.move") else args[:1]:
                    if event == "os.symlink":
                        path = args[1]
                    if isinstance(
                        path, str | bytes | os.PathLike
                    ):  # the link itself is changed, not its target
                        path = os.fsdecode(path)
                        touched(
                            os.path.join(
                                os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path)
                            ),
                            changes=True,
                        )
            elif event in _RUNS_CODE:
                seen.append(("executed", f"{event} {args!r:.200}"))
            elif event == "pickle.find_class":
                if not str(args[0]).startswith(_HARMLESS_PICKLED):
                    seen.append(("executed", f"a pickle asked for {args[0]}.{args[1]}"))
            elif event in ("exec", "compile") and any(
                part in sys._getframe(1).f_code.co_filename for part in _READERS
            ):
                seen.append(("executed", f"{event} {args!r:.200}"))

        return hook

    def _judge(self, each: _Running, status: int, used: resource.struct_rusage, child: int) -> Outcome:
        trial = each.trial
        with open(each.answer, "rb") as pipe:
            told = pipe.read()
        answer = json.loads(told) if told else {}
        printed = each.log.read_bytes().decode(errors="backslashreplace") if each.log.exists() else ""
        faults: dict[str, str] = {}
        for kind, what in answer.get("seen", []):
            faults.setdefault(kind, what)
        seconds, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024 - each.before
        trace = answer.get("trace") or (printed if "Traceback (most recent call last)" in printed else "")
        if trace:
            faults["traceback"] = _last_frame(trace)
        sound = self.sound.get(trial.kind)
        if (each.stopped and "MB" in each.stopped) or (sound and megabytes - sound.megabytes > MEGABYTES):
            faults["memory"] = f"{megabytes - (sound.megabytes if sound else 0):.0f} MB"
        if ("s" in each.stopped and "MB" not in each.stopped) or (
            sound and seconds - sound.seconds > SECONDS
        ):
            faults["hang"] = each.stopped or f"{seconds:.1f} s of processor time"
        elif not told and not faults:
            faults["traceback"] = (
                f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no answer"
            )
        ended, text = answer.get("ended", "fault"), answer.get("text") or printed
        if ended == "fault" and not faults:
            faults["unclear"] = text[-300:]
        if ended == "refused" and not faults and (what := _unclear(text, printed, answer["length"], trial)):
            faults["unclear"] = what
        if self._look() != self._before:
            faults["outside"] = f"the files in {self.canary.name} are not as they were"
            self._before = self._look()
        each.log.unlink(missing_ok=True)
        outcome = Outcome(
            name=_whole(trial.name), kind=trial.kind, ended="fault" if faults else ended, seconds=seconds,
            faults={fault: _whole(what) for fault, what in faults.items()}, megabytes=megabytes,
            said=_whole(text[-400:]),
        )  # fmt: skip
        if trial.sound:
            if ended != "accepted" or faults:
                raise RuntimeError(
                    f"the sound {trial.name} should end well: {faults} {trace or text[-2000:]}"
                )
            self.sound[trial.kind] = outcome
        shutil.rmtree(trial.folder, ignore_errors=True)
        return outcome

    def _look(self) -> list[tuple]:
        """Names, sizes and times of the canary's files, that of the last reading among them."""
        found = []
        for path in (self.canary, *sorted(self.canary.rglob("*"))):
            about = path.lstat()
            read = 0 if path.is_dir() else about.st_atime_ns  # looking into a folder reads it
            found.append(
                (str(path), about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_mode, read)
            )
        return found


def stop(child: int) -> None:
    """Kill a process and all that it started."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        os.kill(child, signal.SIGKILL)


def _redirect(log: Path) -> None:
    null, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)


def _whole(text: str) -> str:
    """Text without lone surrogates, which a file cannot keep."""
    return text.encode(errors="backslashreplace").decode()


def _resident(child: int) -> int:
    try:
        return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _blocked(each: _Running, child: int) -> str:
    """Why a trial counts as blocked; empty when it does not."""
    now, ticks = time.monotonic(), _ticks(child)
    if ticks != each.ticks:
        each.ticks, each.computed = ticks, now
    if now - each.computed > PATIENCE:
        return f"computed nothing for {PATIENCE} s"
    return f"not done after {LONG} s" if now - each.began > LONG else ""


def _ticks(child: int) -> int:
    """Processor time that a process has used, in ticks of the system's clock."""
    try:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _last_frame(trace: str) -> str:
    """The exception and where it was raised, in our own files if they are in the trace."""
    lines = trace.strip().splitlines()
    places = [line.strip() for line in lines if line.lstrip().startswith("File ")]
    ours = [line for line in places if "/emma_viz/" in line or "/training/" in line] or places or [""]
    place = ours[-1].split("site-packages/")[-1].split("/emma_viz/", 1)[-1]
    return f"{lines[-1][:300]} @ {place}"


def _unclear(text: str, printed: str, length: int, trial: Trial) -> str:
    """What a sentence lacks: the file's name, printable signs alone, a bearable length."""
    raw = {
        sign for sign in text + printed if (ord(sign) < 32 and sign not in "\n\t\r") or 127 <= ord(sign) < 160
    }
    if raw:
        return f"control characters {sorted(raw)!r} in: {text[:200]!r}"
    if not text.strip():
        return "refused without a word"
    if length > LONGEST or len(printed) > PRINTED:
        return f"a sentence of {max(length, len(printed))} characters: {text[:100]!r}"
    if trial.names and not any(name in text.removeprefix("emma-viz: error: ") for name in trial.names):
        return f"names no file: {text.strip()[-300:]!r}"
    return ""
