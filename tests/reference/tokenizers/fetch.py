"""Fetches the published tokenizers that sources.json names, from npm; kept in a folder of the build."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = json.loads((HERE / "sources.json").read_text())
NAMES = [name for name in SOURCES if name != "reference"]


class Unavailable(Exception):
    """No npm, or nothing to be had from it."""


def fetch(name, folder):
    """The folder with the package's files, fetched unless it is there."""
    target = Path(folder) / name
    if (target / "done").exists():
        return target
    if shutil.which("npm") is None:
        raise Unavailable("there is no npm")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        packed = subprocess.run(["npm", "pack", "--silent", SOURCES[name]["package"]], cwd=target, text=True,
                                capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise Unavailable("npm does not answer") from None
    if packed.returncode != 0:
        raise Unavailable(f"npm pack {SOURCES[name]['package']}: {packed.stderr.strip()[-300:]}")
    archive = target / packed.stdout.split()[-1]
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = Path(member.name)
            wanted = path.parts[1:2] == ("models",) or name == "reference"
            if member.isfile() and wanted and ".." not in path.parts:
                out = target / (path.name if name != "reference" else "/".join(path.parts[1:]))
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(tar.extractfile(member).read())
    archive.unlink()
    (target / "done").touch()
    return target
