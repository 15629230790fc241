#include "engine/past_blocks.hpp"

#include <algorithm>

namespace powerprefill {

PastBlocks::PastBlocks(CacheReader reader)
    : reader_(std::move(reader)),
      shape_{reader_.header().block_tokens, reader_.header().num_kv_heads,
             reader_.header().head_dim, reader_.header().dtype},
      decoded_(static_cast<std::size_t>(reader_.header().num_layers)) {}

void PastBlocks::load(std::int64_t layer, std::int64_t block) {
  const auto [place, is_new] = blocks_.try_emplace({layer, block});
  if (!is_new) return;
  Block& data = place->second;
  const auto bytes = static_cast<std::size_t>(reader_.rows_of(block) * shape_.row_bytes());
  data.key.resize(bytes);
  data.value.resize(bytes);
  reader_.read_block(layer, KvPart::key, block, data.key);
  reader_.read_block(layer, KvPart::value, block, data.value);
  bytes_read_ += static_cast<std::int64_t>(2 * bytes);
  if (!zeroed_) return;
  std::fill(data.key.begin(), data.key.end(), std::byte{0});
  std::fill(data.value.begin(), data.value.end(), std::byte{0});
}

KvBlockView PastBlocks::file_block(std::int64_t layer, std::int64_t block) const {
  const Block& data = blocks_.at({layer, block});
  return {data.key.data(), data.value.data()};
}

KvBlockView PastBlocks::decoded_row(std::int64_t layer, std::int64_t row) const {
  const Block& data = decoded_[static_cast<std::size_t>(layer)];
  return {data.key.data() + row * shape_.row_bytes(), data.value.data() + row * shape_.row_bytes()};
}

void PastBlocks::append(std::int64_t layer, const std::byte* key, const std::byte* value) {
  Block& data = decoded_[static_cast<std::size_t>(layer)];
  data.key.insert(data.key.end(), key, key + shape_.row_bytes());
  data.value.insert(data.value.end(), value, value + shape_.row_bytes());
}

}  // namespace powerprefill
