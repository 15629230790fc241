"""Runs with storage_faults.c preloaded: what they do to files, and calls that fail."""

import collections
import contextlib
import dataclasses
import errno
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("storage_faults.c")


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a rank, and the how manieth of this kind it is."""

    rank: int
    name: str
    number: int
    phase: str

    def fault(self, error, sticky):
        """The environment in which it fails; if `sticky`, all that follow fail too."""
        return {"FAULT_RANK": str(self.rank), "FAULT_CALL": self.name,
                "FAULT_NTH": str(self.number), "FAULT_ERRNO": str(getattr(errno, error)),
                **({"FAULT_STICKY": "1"} if sticky else {})}


class Log:
    def __init__(self, path, library):
        self.path, self.library = path, library

    def environment(self, folder):
        """Of a run whose calls on files in the folder are to be seen."""
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        return {"LD_PRELOAD": str(self.library), "FAULT_PATH": str(folder),
                "FAULT_LOG": str(self.path), "ASAN_OPTIONS": sanitizer.removeprefix(":")}

    def lines(self):
        """The words of every line that is complete."""
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split() for line in text.split("\n")[:-1]]

    def commits(self):
        return sum(words[0] == "commit" for words in self.lines())

    def committed(self):
        """The tokens of the last commit that was synced; 0 before the first."""
        return max((int(words[2]) for words in self.lines() if words[0] == "commit"), default=0)

    def calls(self):
        numbers, calls = collections.Counter(), []
        for rank, name, kind, file in (words for words in self.lines() if words[0] != "commit"):
            number = numbers[rank, name]
            numbers[rank, name] += 1
            calls.append(Call(int(rank), name, number, phase(name, kind, file)))
        return calls


def phase(name, kind, file):
    """Of the life of an output, in which a call belongs."""
    if kind == "record":
        return "record"
    if file.endswith(".probe.tmp"):
        return "probe"
    if kind == "thread":
        return "rows"
    if file.startswith("."):
        return "temporary"
    return "publish" if name == "rename" or not file.endswith(".h5") else "values"


class Faults:
    """Compiles the library into the folder."""

    def __init__(self, folder):
        self.folder, self.library = folder, folder / "storage_faults.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(self.library), str(SOURCE)],
                       check=True)

    @contextlib.contextmanager
    def log(self):
        path = self.folder / "calls.log"
        path.unlink(missing_ok=True)
        yield Log(path, self.library)
