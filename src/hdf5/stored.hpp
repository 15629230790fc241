// What is found in an HDF5 file, whoever reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hdf5/element.hpp"

namespace powerprefill::hdf5 {

// What a dataset was found to be.
struct DatasetInfo {
  std::optional<Element> element;  // empty: a type that powerprefill does not use
  std::vector<std::int64_t> shape;
  std::int64_t offset = -1;  // in the file; -1: not one contiguous piece of it
};

struct StoredType {
  std::optional<Element> element;
  bool is_text = false;  // of fixed length
  std::size_t bytes = 0;
};

// A single value.
struct StoredAttribute {
  StoredType type;
  std::string value;  // of type.bytes bytes, as they lie in the file
};

// What every HDF5 file without a user block begins with.
inline constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";

// HDF5 keeps attributes in object headers, whose messages end at 64 KiB.
inline constexpr std::size_t kLongestText = 64000;

}  // namespace powerprefill::hdf5
