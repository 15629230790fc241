// What a dataset is to be, for those who plan a file as for those who make it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/checked.hpp"
#include "hdf5/element.hpp"

namespace powerprefill::hdf5 {

struct DatasetSpec {
  std::string name;  // full path; groups on the way are made
  Element element = Element::u8;
  std::vector<std::int64_t> shape;
  std::string description;  // becomes the attribute `description`

  // Bytes of the whole dataset. Throws Error(internal) on overflow.
  std::int64_t bytes() const {
    std::int64_t total = bytes_of(element);
    for (const std::int64_t extent : shape) total = checked_mul(total, extent);
    return total;
  }
};

}  // namespace powerprefill::hdf5
