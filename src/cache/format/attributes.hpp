// The root attributes of a cache file: a CacheHeader in HDF5's words.
#pragma once

#include <cstdint>
#include <string>

#include "cache/format/header.hpp"
#include "hdf5/file.hpp"

namespace powerprefill {

// What is wrong with the numbers of a header, or an empty text. A header without a problem can be
// multiplied out: no size of a file that it describes overflows.
std::string problem_of(const CacheHeader& header);

void write_attributes(hdf5::File& file, const CacheHeader& header);

// Whether the file says that it is a KV cache, of whatever version and however damaged.
bool claims_to_be_cache(const hdf5::File& file);

// Throws Error(cache) naming `path`: not a cache file, a newer major version, an attribute missing,
// of another type or out of bounds.
CacheHeader read_attributes(const hdf5::File& file, const std::string& path);

// Hash of the canonical text of the attributes: a line "name=value\n" for each, in the order of
// README.md, integers in decimal. Attributes that later versions may add are not part of it.
std::uint64_t header_hash(const CacheHeader& header);

}  // namespace powerprefill
