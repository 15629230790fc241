// The keys and values that decoding looks back on: blocks of the cache file, read when first needed,
// and the rows decoded since.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "cache/reader.hpp"
#include "engine/layer_kv.hpp"

namespace powerprefill {

class PastBlocks {
 public:
  explicit PastBlocks(CacheReader reader);

  const CacheReader& reader() const { return reader_; }
  const KvShape& shape() const { return shape_; }
  std::int64_t file_tokens() const { return reader_.tokens(); }

  // Reads and checks the rows of `block` that the file has, unless they are here already.
  void load(std::int64_t layer, std::int64_t block);
  // The rows that load() brought, (rows, G, D) each. Any number of threads.
  KvBlockView file_block(std::int64_t layer, std::int64_t block) const;

  // Row `row` decoded since (0 for the first), (G, D) in the file's dtype.
  KvBlockView decoded_row(std::int64_t layer, std::int64_t row) const;
  // Adds a row; `key` and `value` are (G, D) in the file's dtype.
  void append(std::int64_t layer, const std::byte* key, const std::byte* value);

  void zero_file_blocks() { zeroed_ = true; }
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  struct Block {
    std::vector<std::byte> key;
    std::vector<std::byte> value;
  };
  CacheReader reader_;
  KvShape shape_;
  std::map<std::pair<std::int64_t, std::int64_t>, Block> blocks_;  // by (layer, block)
  std::vector<Block> decoded_;                                     // by layer: (rows, G, D)
  bool zeroed_ = false;
  std::int64_t bytes_read_ = 0;
};

}  // namespace powerprefill
