// Where everything lies in a cache file.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/format/header.hpp"
#include "hdf5/dataset_spec.hpp"

namespace powerprefill {

// The datasets of a file with this header, those of fixed number first, then key and value of each
// layer. See README.md.
std::vector<hdf5::DatasetSpec> datasets_of(const CacheHeader& header);

// File offsets, in bytes. Pure arithmetic on the offsets that HDF5 gave to the datasets.
class CacheLayout {
 public:
  CacheLayout() = default;
  // `offsets` in the order of datasets_of(header).
  CacheLayout(const CacheHeader& header, std::vector<std::int64_t> offsets);

  // Row `token` of one layer's keys (part 0) or values (part 1).
  std::int64_t rows(std::int64_t layer, int part, std::int64_t token) const;
  // Row `token` of a column of the checksum table, see ChecksumRun.
  std::int64_t column_rows(std::int64_t column, std::int64_t token) const;
  std::int64_t tokens(std::int64_t token = 0) const;
  std::int64_t decoded(std::int64_t token = 0) const;
  // The slots are 0 and 1.
  std::int64_t checksums(int slot) const;
  std::int64_t logits(int slot) const;
  std::int64_t hidden(int slot) const;
  std::int64_t records() const;
  // Only if the header saves_hidden.
  std::int64_t hidden_rows(std::int64_t token) const;
  std::int64_t hidden_checksums(int slot) const;

 private:
  CacheHeader header_;
  std::vector<std::int64_t> offsets_;
  std::int64_t first_layer_ = 0;  // index of layer 0's key
};

}  // namespace powerprefill
