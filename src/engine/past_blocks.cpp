#include "engine/past_blocks.hpp"

#include <algorithm>

namespace powerprefill {

PastBlocks::PastBlocks(CacheReader reader, std::int64_t budget)
    : reader_(std::move(reader)),
      shape_{reader_.header().block_tokens, reader_.header().num_kv_heads,
             reader_.header().head_dim, reader_.header().dtype},
      budget_(budget),
      rows_(static_cast<std::size_t>(reader_.header().num_layers)) {}

void PastBlocks::reopen(CacheReader reader) {
  // The last block had fewer rows when it was read.
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    if ((it->first.second + 1) * shape_.block <= file_tokens()) {
      ++it;
      continue;
    }
    bytes_held_ -= it->second.bytes();
    recent_.erase(it->second.place);
    it = blocks_.erase(it);
  }
  reader_ = std::move(reader);
  for (Block& rows : rows_) rows = {};
}

void PastBlocks::load(std::int64_t layer, std::int64_t block) {
  const Name name = {layer, block};
  const auto [place, is_new] = blocks_.try_emplace(name);
  Block& data = place->second;
  data.epoch = epoch_;
  if (!is_new) {
    recent_.splice(recent_.begin(), recent_, data.place);
    return;
  }
  data.place = recent_.insert(recent_.begin(), name);
  const auto bytes = static_cast<std::size_t>(reader_.rows_of(block) * shape_.row_bytes());
  data.key.resize(bytes);
  data.value.resize(bytes);
  reader_.read_block(layer, KvPart::key, block, data.key);
  reader_.read_block(layer, KvPart::value, block, data.value);
  bytes_read_ += data.bytes();
  bytes_held_ += data.bytes();
  if (zeroed_) {
    std::fill(data.key.begin(), data.key.end(), std::byte{0});
    std::fill(data.value.begin(), data.value.end(), std::byte{0});
  }
  make_room();
}

void PastBlocks::make_room() {
  while (bytes_held_ > budget_ && !recent_.empty()) {
    const auto oldest = blocks_.find(recent_.back());
    if (oldest->second.epoch == epoch_) return;
    bytes_held_ -= oldest->second.bytes();
    recent_.pop_back();
    blocks_.erase(oldest);
  }
}

KvBlockView PastBlocks::file_block(std::int64_t layer, std::int64_t block) const {
  const Block& data = blocks_.at({layer, block});
  return {data.key.data(), data.value.data()};
}

KvBlockView PastBlocks::new_row(std::int64_t layer, std::int64_t row) const {
  const Block& data = rows_[static_cast<std::size_t>(layer)];
  return {data.key.data() + row * shape_.row_bytes(), data.value.data() + row * shape_.row_bytes()};
}

void PastBlocks::append(std::int64_t layer, std::span<const std::byte> key,
                        std::span<const std::byte> value) {
  Block& data = rows_[static_cast<std::size_t>(layer)];
  data.key.insert(data.key.end(), key.begin(), key.end());
  data.value.insert(data.value.end(), value.begin(), value.end());
}

}  // namespace powerprefill
