"""What every byte of a finished cache file is, by the format's page: what a change must do."""

import bisect
import dataclasses

import h5py

from support.cache import newest_record

ROWS, ROW_BYTES, RECORD_BYTES = 16, 4096, 64  # of /commit


@dataclasses.dataclass(frozen=True)
class Region:
    """Bytes of one meaning. `damage` is True where a change must be found, False where it must not
    matter, and None where it may be either: HDF5's own structure, parts of which nobody reads."""

    name: str
    damage: bool | None


class CacheMap:
    def __init__(self, path):
        self.data = path.read_bytes()
        self.pieces = []  # (start, end, region), ascending
        with h5py.File(path, "r") as file:
            self._datasets(file)
            self._attributes(file)
        self.pieces.sort(key=lambda piece: piece[0])
        self._structure()
        self.starts = [start for start, _, _ in self.pieces]

    def region(self, offset):
        return self.pieces[bisect.bisect_right(self.starts, offset) - 1][2]

    def pieces_by_name(self):
        """{region name: [(start, end)]}"""
        found = {}
        for start, end, region in self.pieces:
            found.setdefault(region.name, []).append((start, end))
        return found

    def _add(self, start, size, name, damage):
        if size > 0:
            self.pieces.append((start, start + size, Region(name, damage)))

    def _rows(self, dataset, used, name):
        """Of its rows, those below `used` are committed."""
        start = dataset.id.get_offset()
        row = dataset.id.get_storage_size() // dataset.shape[0]
        self._add(start, used * row, name, True)
        self._add(start + used * row, (dataset.shape[0] - used) * row, name + ", reserve", False)

    def _slots(self, dataset, slot, used, name):
        """The first `used` of the last axis count, in one of two slots."""
        item = dataset.dtype.itemsize
        width = dataset.shape[-1] * item
        half = dataset.id.get_storage_size() // 2
        start = dataset.id.get_offset() + slot * half
        self._add(dataset.id.get_offset() + (1 - slot) * half, half, name + ", other slot", False)
        for at in range(start, start + half, width):
            self._add(at, used * item, name, True)
            self._add(at + used * item, width - used * item, name + ", reserve", False)

    def _datasets(self, file):
        sequence, tokens, value_slot, checksum_slot = newest_record(file)
        blocks = -(-tokens // int(file.attrs["block_tokens"]))
        for layer in file["layers"].values():
            for part in layer.values():
                self._rows(part, tokens, "rows")
        if "hidden_all" in file:
            self._rows(file["hidden_all"], tokens, "hidden rows")
            self._slots(file["hidden_checksums"], checksum_slot, blocks, "checksums")
        for name in ("tokens", "decoded"):
            self._rows(file[name], tokens, name)
        self._slots(file["checksums"], checksum_slot, blocks, "checksums")
        for name in ("logits", "hidden"):
            self._slots(file[name], value_slot, file[name].shape[-1], name)
        names = {sequence % ROWS: ("newest record", True),
                 # What is neither empty nor intact there may have been a newer record.
                 (sequence + 1) % ROWS: ("place of the next record", True)}
        start = file["commit"].id.get_offset()
        for row in range(ROWS):
            at = start + row * ROW_BYTES
            self._add(at, RECORD_BYTES, *names.get(row, ("older records", False)))
            self._add(at + RECORD_BYTES, ROW_BYTES - RECORD_BYTES, "padding of records", False)

    def _attributes(self, file):
        """Texts of the root; they lie within HDF5's structure, whose checksums cover them, too."""
        for value in file.attrs.values():
            at = self.data.find(value) if isinstance(value, bytes) and len(value) > 7 else -1
            if at >= 0:
                self._add(at, len(value), "attributes", True)

    def _structure(self):
        """What is left, told apart by whether there is anything. HDF5 keeps zeros in use, too."""
        used, left = 0, []
        for start, end, _ in self.pieces + [(len(self.data), len(self.data), None)]:
            at = used
            while at < start:
                empty, end_of_run = self.data[at] == 0, at
                while end_of_run < start and (self.data[end_of_run] == 0) == empty:
                    end_of_run += 1
                name = "zeros of the structure" if empty else "structure"
                left.append((at, end_of_run, Region(name, None)))
                at = end_of_run
            used = max(used, end)
        self.pieces = sorted(self.pieces + left, key=lambda piece: piece[0])


def structure_seen_by_hdf5(path):
    """All that HDF5 tells of the file's contents, besides those of the datasets. Not by H5Ovisit,
    which also asks for the free space within HDF5's own structure."""
    seen = {}

    def look(name, item):
        seen[name] = [type(item).__name__] + [(key, str(value), str(getattr(value, "dtype", "")))
                                              for key, value in sorted(item.attrs.items())]
        if isinstance(item, h5py.Dataset):
            seen[name] += [item.shape, str(item.dtype), item.id.get_type().encode(),
                           item.id.get_offset()]
        if isinstance(item, h5py.Group):
            for key, child in item.items():
                look(f"{name}/{key}", child)

    with h5py.File(path, "r") as file:
        look("", file)
    return seen
