"""The rules of the house that a compiler does not check."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = sorted(p for folder in ("src", "include") for p in (ROOT / folder).rglob("*")
                 if p.suffix in (".hpp", ".cpp"))

ROOMS = [ROOT / name for name in (".ci", "bench", "data", "include", "launch", "src", "tests")]
FILES = sorted(p for room in ROOMS for p in room.rglob("*") if p.is_file() and "__pycache__" not in p.parts)

# What each room may include; itself and the public headers always.
FOUNDATION = {"base", "files", "json"}
TEXT = {"text", "text/regex", "text/unicode"}
MATH = {"math", "math/attention", "math/linear", "math/rows"}
MODEL = {"model", "model/families", "model/sources", "model/weights"}
CACHE = {"cache", "cache/format"}
ENGINE = FOUNDATION | MATH | MODEL | CACHE | {"pattern", "partition", "mpi", "plan"}
MAY_KNOW = {
    "base": set(),
    "files": {"base"},
    "json": {"base", "files"},
    "text/unicode": {"base"},
    "text/regex": {"base", "text/unicode"},
    "text": FOUNDATION | {"text/regex", "text/unicode"},
    "pattern": FOUNDATION,
    "partition": {"base", "pattern"},
    "math/rows": {"base"},
    "math/linear": {"base", "math/rows"},
    "math/attention": {"base", "math/linear", "math/rows"},
    "math": {"base", "math/attention", "math/linear", "math/rows"},
    "mpi": {"base", "files"},
    "hdf5": {"base", "files"},
    "model": FOUNDATION | {"math/rows"},
    "model/families": FOUNDATION | {"math/attention", "model"},
    "model/sources": FOUNDATION,
    "model/weights": FOUNDATION | MATH | {"model", "model/sources", "mpi"},
    "cache/format": FOUNDATION | {"hdf5", "pattern"},
    "cache": FOUNDATION | {"cache/format", "hdf5", "math/rows", "mpi", "pattern"},
    "plan": FOUNDATION | MATH | {"model", "model/families", "cache/format", "pattern", "partition"},
    "kv": FOUNDATION | MATH | CACHE | {"mpi", "partition", "plan"},
    "run": ENGINE | {"kv"},
    "layers": ENGINE | {"kv", "run"},
    "prefill": ENGINE | {"kv", "layers", "run"},
    "decode": ENGINE | {"kv", "layers", "run", "prefill"},
    "score": ENGINE | {"kv", "layers", "run"},
    "report": FOUNDATION,
    "cli": FOUNDATION | MATH | {"mpi", "hdf5", "report"},
    "cli/options": FOUNDATION | CACHE | {"pattern", "mpi", "hdf5", "report", "cli"},
    "cli/commands": FOUNDATION | MATH | CACHE | {"pattern", "partition", "mpi", "hdf5", "report", "cli", "cli/options"},
}


def room(path):
    return path.parent.relative_to(ROOT / "src").as_posix()


def foreign_headers(path, seen):
    """Of MPI and HDF5, through all includes."""
    found = set()
    for kind, target in re.findall(r'#include ([<"])([^>"]+)[>"]', path.read_text()):
        if kind == "<":
            found |= {target} & {"mpi.h", "hdf5.h"}
            continue
        inner = next((p for p in (ROOT / "src" / target, ROOT / "include" / target) if p.exists()), None)
        if inner is not None and inner not in seen:
            seen.add(inner)
            found |= foreign_headers(inner, seen)
    return found


class House(unittest.TestCase):
    def test_rooms_include_downwards_only(self):
        seen = 0
        for path in SOURCES:
            if "include" == path.relative_to(ROOT).parts[0]:
                continue
            for target in re.findall(r'#include "([a-z0-9_/]+)/[a-z0-9_]+\.[hc]pp"', path.read_text()):
                seen += 1
                if target in ("powerprefill", room(path)):
                    continue
                self.assertIn(target, MAY_KNOW[room(path)], f"{path.relative_to(ROOT)} includes {target}/")
        self.assertGreater(seen, 50)

    def test_no_cycles_and_no_crowd(self):
        """The table names no circle, and a room has about 20 files and says what lives in it."""
        done, left = set(), dict(MAY_KNOW)
        while left:
            free = [name for name, below in left.items() if below <= done]
            self.assertTrue(free, f"these know each other in a circle: {sorted(left)}")
            done |= set(free)
            for name in free:
                del left[name]
        for name in MAY_KNOW:
            folder = ROOT / "src" / name
            files = [p for p in folder.iterdir() if p.suffix in (".hpp", ".cpp")]
            self.assertLessEqual(len(files), 24, name)
            self.assertTrue((ROOT / "src" / name.split("/")[0] / "README.md").exists(), f"what lives in src/{name}?")

    def test_pure_rooms(self):
        """Planning needs neither MPI nor HDF5, whatever it includes."""
        for path in SOURCES:
            if path.parent.name in ("plan", "pattern", "partition"):
                self.assertEqual(foreign_headers(path, set()), set(), path.relative_to(ROOT))

    def test_foreign_calls_stay_in_their_room(self):
        for path in SOURCES:
            text = re.sub(r"//.*", "", path.read_text())
            name = str(path.relative_to(ROOT))
            if not name.startswith("src/mpi/"):
                self.assertIsNone(re.search(r"\bMPI_[A-Z][a-z_]+\(", text), name)
            if not name.startswith("src/hdf5/"):
                self.assertIsNone(re.search(r"\bH5[A-Z]{1,2}[a-z_]+\(", text), name)
            if not name.startswith("src/cli/"):
                self.assertNotIn("getenv", text, name)
            if name != "src/base/say.cpp":  # the one that cannot throw
                self.assertIsNone(re.search(r"\bstderr\b|std::cerr", text), name)

    def test_public_headers_explain_themselves(self):
        for path in SOURCES:
            if path.relative_to(ROOT).parts[0] != "include":
                continue
            lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
            lines = [line for line in lines if not line.startswith(("#", "namespace", "}"))]
            documented = sum("//" in line for line in lines)
            self.assertGreaterEqual(documented / len(lines), 0.4, path.name)

    def test_programs_can_be_run(self):
        """What begins with #! has the run bit, nothing else has it, and what says how it is run begins so."""
        programs = 0
        for path in FILES:
            is_program = path.read_bytes()[:2] == b"#!"
            self.assertEqual(path.stat().st_mode & 0o111 != 0, is_program, f"{path.relative_to(ROOT)}: #! and the run bit")
            if path.suffix == ".py":
                usage = re.search(rf"^(    |  |Usage: )(python3 )?([a-z_]+/)*{path.name}\b", path.read_text(), re.M)
                self.assertTrue(is_program or not usage, f"{path.relative_to(ROOT)}: a program without #!")
            programs += is_program
        self.assertGreater(programs, 15)

    def test_one_mpirun(self):
        """What an MPI's mpirun wants to be told is in one script, and where a test is about Open MPI itself."""
        words = re.compile(r"--allow-run-as-root|--oversubscribe|(OMPI|PRTE)_(MCA|ALLOW)_")
        users = [p for p in FILES if p.suffix in ("", ".py", ".sh", ".txt") and words.search(p.read_text())]
        users.remove(pathlib.Path(__file__).resolve())
        self.assertEqual(users, [ROOT / "launch/local-mpirun", ROOT / "tests/system/test_hosts.py"])

    def test_every_pattern_is_in_the_registry(self):
        """The linker would not miss it."""
        defined = [name for path in (ROOT / "src/pattern").glob("*.cpp")
                   for name in re.findall(r"\bPatternKind (k\w+) = \{", path.read_text())]
        registry = (ROOT / "src/pattern/registry.cpp").read_text()
        listed = re.search(r"\bkinds\[\] = \{([^}]*)\}", registry)[1]
        self.assertEqual(sorted(re.findall(r"\w+", listed)), sorted(defined))

    def test_readme_shows_the_consumer(self):
        """The program that README.md shows to users of the library is the one that is built and run."""
        readme = (ROOT / "README.md").read_text()
        program = (ROOT / "tests/system/consumer/main.cpp").read_text()
        self.assertIn(f"\n```cpp\n{program}```\n", readme)
        self.assertEqual([line for line in readme.splitlines() if len(line) > 120], [])

    def test_top_level(self):
        visible = {p.name for p in ROOT.iterdir() if not p.name.startswith((".", "build"))}
        self.assertLessEqual(visible, {"CMakeLists.txt", "CMakePresets.json", "src", "include", "launch",
                                       "tests", "bench", "data", "README.md", "LICENSE"})


if __name__ == "__main__":
    unittest.main()
