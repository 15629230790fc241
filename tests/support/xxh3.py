"""XXH3-64 from whatever this machine has: Python's xxhash, or the C library the program uses."""

import ctypes
import ctypes.util

try:
    import xxhash
except ImportError:
    xxhash = None


def find_xxh3():
    """A function from bytes to the 64-bit hash, or None."""
    if xxhash is not None:
        return lambda data: xxhash.xxh3_64_intdigest(bytes(data))
    name = ctypes.util.find_library("xxhash")
    if name is None:
        return None
    function = ctypes.CDLL(name).XXH3_64bits
    function.restype = ctypes.c_uint64
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return lambda data: function(bytes(data), len(data))
