"""A unittest case with a checkpoint in a folder of its own."""

import tempfile
import unittest
from pathlib import Path

from support.checkpoint import Spec, write_checkpoint


class ModelCase(unittest.TestCase):
    """`folder` is removed after the last test of the class; `model` in it is of the kind `SPEC`."""

    SPEC = Spec()

    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.folder = Path(scratch.name)
        cls.model = write_checkpoint(cls.folder / "model", cls.SPEC)
