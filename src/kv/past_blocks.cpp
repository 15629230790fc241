#include "kv/past_blocks.hpp"

#include <algorithm>

namespace powerprefill {

PastBlocks::PastBlocks(CacheReader reader, Part heads, std::shared_ptr<BlockBudget> budget)
    : reader_(std::move(reader)),
      shape_(reader_.header().kv_shape()),
      heads_(heads),
      budget_(std::move(budget)),
      rows_(static_cast<std::size_t>(reader_.header().num_layers)) {}

PastBlocks::~PastBlocks() {
  for (const auto& [name, block] : blocks_) budget_->held -= block.bytes();
}

void PastBlocks::reopen(CacheReader reader) {
  // The last block had fewer rows when it was read.
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    if ((it->first.second + 1) * shape_.block <= file_tokens()) {
      ++it;
      continue;
    }
    budget_->held -= it->second.bytes();
    recent_.erase(it->second.place);
    it = blocks_.erase(it);
  }
  reader_ = std::move(reader);
  for (Block& rows : rows_) rows = {};
}

void PastBlocks::load(ThreadPool& pool, std::int64_t layer, std::span<const std::int64_t> blocks) {
  if (heads_.begin == heads_.end) return;
  std::vector<std::int64_t> missing;
  for (const std::int64_t block : blocks) {
    if (block * shape_.block >= file_tokens()) continue;
    const auto place = blocks_.find({layer, block});
    if (place == blocks_.end()) {
      missing.push_back(block);
      continue;
    }
    place->second.epoch = epoch_;
    recent_.splice(recent_.begin(), recent_, place->second.place);
  }
  std::int64_t file_bytes = 0;
  for (const std::int64_t block : missing) {
    file_bytes += 2 * reader_.rows_of(block) * shape_.row_bytes();
  }
  make_room(file_bytes / shape_.kv_heads * (heads_.end - heads_.begin));
  std::vector<Block> read(missing.size());
  pool.run(std::ssize(missing), [&](std::int64_t i, int) {
    const auto at = static_cast<std::size_t>(i);
    read[at].key = read_by_heads(layer, KvPart::key, missing[at]);
    read[at].value = read_by_heads(layer, KvPart::value, missing[at]);
  });
  bytes_read_ += file_bytes;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const Name name = {layer, missing[i]};
    const auto [place, is_new] = blocks_.try_emplace(name, std::move(read[i]));
    if (!is_new) continue;
    place->second.epoch = epoch_;
    place->second.place = recent_.insert(recent_.begin(), name);
    budget_->held += place->second.bytes();
  }
}

std::vector<std::byte> PastBlocks::read_by_heads(std::int64_t layer, KvPart part,
                                                 std::int64_t block) const {
  const std::int64_t rows = reader_.rows_of(block);
  const std::int64_t head_bytes = shape_.row_bytes() / shape_.kv_heads;
  thread_local std::vector<std::byte> whole;  // (rows, G, D)
  whole.resize(static_cast<std::size_t>(rows * shape_.row_bytes()));
  reader_.read_block(layer, part, block, whole);
  std::vector<std::byte> data(
      static_cast<std::size_t>((heads_.end - heads_.begin) * rows * head_bytes));
  if (zeroed_) return data;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t head = heads_.begin; head < heads_.end; ++head) {
      std::copy_n(whole.data() + row * shape_.row_bytes() + head * head_bytes, head_bytes,
                  data.data() + ((head - heads_.begin) * rows + row) * head_bytes);
    }
  }
  return data;
}

// For so many bytes more.
void PastBlocks::make_room(std::int64_t incoming) {
  while (budget_->held + incoming > budget_->limit && !recent_.empty()) {
    const auto oldest = blocks_.find(recent_.back());
    if (oldest->second.epoch == epoch_) return;
    budget_->held -= oldest->second.bytes();
    recent_.pop_back();
    blocks_.erase(oldest);
  }
}

KeyValueRows PastBlocks::file_rows(std::int64_t layer, std::int64_t block,
                                   std::int64_t kv_head) const {
  const Block& data = blocks_.at({layer, block});
  const std::int64_t head_bytes = shape_.row_bytes() / shape_.kv_heads;
  const std::int64_t rows = reader_.rows_of(block);
  const std::int64_t at = (kv_head - heads_.begin) * rows * head_bytes;
  return {{shape_.dtype, data.key.data() + at, head_bytes, rows},
          {shape_.dtype, data.value.data() + at, head_bytes, rows}};
}

KvBlockView PastBlocks::new_row(std::int64_t layer, std::int64_t row) const {
  const Block& data = rows_[static_cast<std::size_t>(layer)];
  return {data.key.data() + row * shape_.row_bytes(), data.value.data() + row * shape_.row_bytes()};
}

KeyValueRows PastBlocks::new_rows(std::int64_t layer, std::int64_t first, std::int64_t count,
                                  std::int64_t kv_head) const {
  const KvBlockView view = new_row(layer, first);
  const std::int64_t at = kv_head * shape_.row_bytes() / shape_.kv_heads;
  return {{shape_.dtype, view.key + at, shape_.row_bytes(), count},
          {shape_.dtype, view.value + at, shape_.row_bytes(), count}};
}

void PastBlocks::reserve_rows(std::int64_t count) {
  const auto bytes = static_cast<std::size_t>(count * shape_.row_bytes());
  for (Block& data : rows_) {
    data.key.reserve(bytes);
    data.value.reserve(bytes);
  }
}

void PastBlocks::keep_rows(std::int64_t count) {
  const auto bytes = static_cast<std::size_t>(count * shape_.row_bytes());
  for (Block& data : rows_) {
    data.key.resize(std::min(data.key.size(), bytes));
    data.value.resize(std::min(data.value.size(), bytes));
  }
}

PastSource PastBlocks::source() const {
  const auto read = [this](std::int64_t layer, KvPart part, std::int64_t block,
                           std::span<std::byte> data) {
    const std::int64_t first = block * shape_.block;
    const std::int64_t rows = std::ssize(data) / shape_.row_bytes();
    const std::int64_t in_file = std::clamp<std::int64_t>(file_tokens() - first, 0, rows);
    const auto bytes = static_cast<std::size_t>(in_file * shape_.row_bytes());
    if (in_file > 0) reader_.read_block(layer, part, block, data.first(bytes));
    if (in_file == rows) return;
    const KvBlockView view = new_row(layer, first + in_file - file_tokens());
    std::copy_n(part == KvPart::key ? view.key : view.value, data.size() - bytes,
                data.data() + bytes);
  };
  PastSource source = past_in(reader_);
  source.read_block = read;
  return source;
}

void PastBlocks::append(std::int64_t layer, std::span<const std::byte> key,
                        std::span<const std::byte> value) {
  Block& data = rows_[static_cast<std::size_t>(layer)];
  data.key.insert(data.key.end(), key.begin(), key.end());
  data.value.insert(data.value.end(), value.begin(), value.end());
}

}  // namespace powerprefill
