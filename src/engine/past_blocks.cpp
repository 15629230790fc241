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
  read_by_heads(layer, KvPart::key, block, data.key);
  read_by_heads(layer, KvPart::value, block, data.value);
  bytes_read_ += data.bytes();
  bytes_held_ += data.bytes();
  if (zeroed_) {
    std::fill(data.key.begin(), data.key.end(), std::byte{0});
    std::fill(data.value.begin(), data.value.end(), std::byte{0});
  }
  make_room();
}

void PastBlocks::read_by_heads(std::int64_t layer, KvPart part, std::int64_t block,
                               std::vector<std::byte>& data) {
  const std::int64_t rows = reader_.rows_of(block);
  const std::int64_t head_bytes = shape_.row_bytes() / shape_.kv_heads;
  rows_read_.resize(static_cast<std::size_t>(rows * shape_.row_bytes()));
  reader_.read_block(layer, part, block, rows_read_);
  data.resize(rows_read_.size());
  const std::byte* from = rows_read_.data();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t head = 0; head < shape_.kv_heads; ++head, from += head_bytes) {
      std::copy_n(from, head_bytes, data.data() + (head * rows + row) * head_bytes);
    }
  }
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

HeadKeysValues PastBlocks::file_rows(std::int64_t layer, std::int64_t block,
                                     std::int64_t kv_head) const {
  const Block& data = blocks_.at({layer, block});
  const std::int64_t head_bytes = shape_.row_bytes() / shape_.kv_heads;
  const std::int64_t rows = static_cast<std::int64_t>(data.key.size()) / shape_.row_bytes();
  const std::int64_t at = kv_head * rows * head_bytes;
  return {{shape_.dtype, data.key.data() + at, head_bytes, rows},
          {shape_.dtype, data.value.data() + at, head_bytes, rows}};
}

KvBlockView PastBlocks::new_row(std::int64_t layer, std::int64_t row) const {
  const Block& data = rows_[static_cast<std::size_t>(layer)];
  return {data.key.data() + row * shape_.row_bytes(), data.value.data() + row * shape_.row_bytes()};
}

HeadKeysValues PastBlocks::new_rows(std::int64_t layer, std::int64_t first, std::int64_t count,
                                    std::int64_t kv_head) const {
  const KvBlockView view = new_row(layer, first);
  const std::int64_t at = kv_head * shape_.row_bytes() / shape_.kv_heads;
  return {{shape_.dtype, view.key + at, shape_.row_bytes(), count},
          {shape_.dtype, view.value + at, shape_.row_bytes(), count}};
}

void PastBlocks::append(std::int64_t layer, std::span<const std::byte> key,
                        std::span<const std::byte> value) {
  Block& data = rows_[static_cast<std::size_t>(layer)];
  data.key.insert(data.key.end(), key.begin(), key.end());
  data.value.insert(data.value.end(), value.begin(), value.end());
}

}  // namespace powerprefill
