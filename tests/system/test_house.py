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
MATH = {"math", "math/linear", "math/attention", "math/rows"}
MODEL = MATH | {"model", "model/sources", "model/weights"}
CACHE = {"cache", "cache/format"}
BELOW_LAYERS = FOUNDATION | MODEL | CACHE | {"pattern", "partition", "mpi", "plan", "kv"}
MAY_KNOW = {
    "base": set(),
    "files": {"base"},
    "json": {"base", "files"},
    "text": FOUNDATION,
    "pattern": FOUNDATION,
    "partition": {"base", "pattern"},
    "math": {"base"} | MATH,
    "math/linear": {"base"} | MATH,
    "math/attention": {"base"} | MATH,
    "math/rows": {"base"} | MATH,
    "mpi": FOUNDATION,
    "hdf5": {"base", "files"},
    "model": FOUNDATION | MATH,
    "model/sources": FOUNDATION | {"model"},
    "model/weights": FOUNDATION | MODEL | {"mpi"},
    "cache/format": FOUNDATION | {"hdf5", "pattern"},
    "cache": FOUNDATION | {"cache/format", "hdf5", "mpi", "pattern"},
    "plan": FOUNDATION | MATH | {"model", "cache/format", "pattern", "partition", "kv", "layers"},
    "kv": FOUNDATION | MATH | CACHE | {"mpi", "partition", "layers"},
    "layers": BELOW_LAYERS | {"run"},
    "run": BELOW_LAYERS,
    "prefill": BELOW_LAYERS | {"layers", "run"},
    "decode": BELOW_LAYERS | {"layers", "run", "prefill"},
    "score": BELOW_LAYERS | {"layers", "run"},
    "report": FOUNDATION,
    "cli": FOUNDATION | MODEL | CACHE | {"text", "pattern", "partition", "mpi", "hdf5", "report"},
    "cli/commands": FOUNDATION | MODEL | CACHE | {"text", "pattern", "partition", "mpi", "hdf5", "report", "cli"},
}


def room(path):
    return path.parent.relative_to(ROOT / "src").as_posix()


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

    def test_top_level(self):
        visible = {p.name for p in ROOT.iterdir() if not p.name.startswith((".", "build"))}
        self.assertLessEqual(visible, {"CMakeLists.txt", "CMakePresets.json", "src", "include", "launch",
                                       "tests", "bench", "data", "README.md", "LICENSE"})


if __name__ == "__main__":
    unittest.main()
