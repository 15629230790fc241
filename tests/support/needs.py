"""What a program needs of the machine, asked for before it starts: one line instead of a traceback."""

import importlib.util
import shutil
import sys
from pathlib import Path

PYTHON = "/usr/bin/python3"  # Debian's, for which its packages are
PACKAGES = {name: f"python3-{name}" for name in ("h5py", "numpy", "torch")}


def end(text):
    sys.exit(f"{Path(sys.argv[0]).name}: {text}")


def modules(*names):
    """Ends the program unless its Python has them."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return
    debian = " ".join(PACKAGES[name] for name in missing if name in PACKAGES)
    others = " ".join(name for name in missing if name not in PACKAGES)
    end(f"{sys.executable} has no module {', '.join(missing)}"
        + (f"; Debian's {PYTHON} has it after apt-get install {debian}" if debian else "")
        + (f"; pip install {others}" if others else ""))


def programs(source, *names):
    """Ends the program unless these can be run, saying where they come from."""
    for name in names:
        if shutil.which(name) is None:
            end(f"there is no program {name}; {source}")
