// The keys and values that decoding looks back on: blocks of the cache file, read when first
// needed, and the rows that came since.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/part.hpp"
#include "base/thread_pool.hpp"
#include "cache/reader.hpp"
#include "kv/layer_kv.hpp"
#include "kv/past_source.hpp"
#include "math/attention/key_value_rows.hpp"

namespace powerprefill {

// Bytes that several PastBlocks may keep together.
struct BlockBudget {
  std::int64_t limit = 0;
  std::int64_t held = 0;
};

// Of the file the rows of the key/value heads `heads` stay in memory, as far as the budget goes
// those of the blocks used last; a layer's attention holds as many as it needs at once, whatever
// the budget.
class PastBlocks {
 public:
  PastBlocks(CacheReader reader, Part heads, std::shared_ptr<BlockBudget> budget);
  PastBlocks(const PastBlocks&) = delete;
  PastBlocks& operator=(const PastBlocks&) = delete;
  ~PastBlocks();

  const CacheReader& reader() const { return reader_; }
  const KvShape& shape() const { return shape_; }
  std::int64_t file_tokens() const { return reader_.tokens(); }

  // Goes on with a later commit of the file, which holds the rows that came since.
  void reopen(CacheReader reader);

  // Begins the attention of a layer: the blocks of the one before need not stay.
  void begin_layer() { ++epoch_; }
  // Reads and checks what the file has of `blocks` and is not here yet.
  void load(ThreadPool& pool, std::int64_t layer, std::span<const std::int64_t> blocks);
  // A head's part of what load() brought since begin_layer(). Any number of threads.
  KeyValueRows file_rows(std::int64_t layer, std::int64_t block, std::int64_t kv_head) const;

  // Row `row` of those that came since (0 for the first), (G, D) in the file's dtype.
  KvBlockView new_row(std::int64_t layer, std::int64_t row) const;
  // A head's part of `count` of them.
  KeyValueRows new_rows(std::int64_t layer, std::int64_t first, std::int64_t count,
                        std::int64_t kv_head) const;
  // Adds rows; `key` and `value` are (rows, G, D) in the file's dtype.
  void append(std::int64_t layer, std::span<const std::byte> key, std::span<const std::byte> value);
  // Room for `count` rows in all since the file's: those that are there stay where they are while
  // append() adds others, so that another thread may read them.
  void reserve_rows(std::int64_t count);
  // Forgets the rows from number `count` on.
  void keep_rows(std::int64_t count);
  // The rows of the file and those since, for a chunk that comes after them. Only when those since
  // have all heads. The source is valid as long as this.
  PastSource source() const;

  void zero_file_blocks() { zeroed_ = true; }
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  using Name = std::pair<std::int64_t, std::int64_t>;  // layer, block
  struct Block {
    // Of the file: (heads, rows, D), so that a head is read in one go.
    std::vector<std::byte> key;
    std::vector<std::byte> value;
    std::uint64_t epoch = 0;
    std::list<Name>::iterator place;  // in recent_
    std::int64_t bytes() const { return static_cast<std::int64_t>(key.size() + value.size()); }
  };
  std::vector<std::byte> read_by_heads(std::int64_t layer, KvPart part, std::int64_t block) const;
  void make_room(std::int64_t incoming);

  CacheReader reader_;
  KvShape shape_;
  Part heads_;
  std::shared_ptr<BlockBudget> budget_;
  std::map<Name, Block> blocks_;
  std::list<Name> recent_;   // the block used last in front
  std::vector<Block> rows_;  // by layer: (rows, G, D)
  std::uint64_t epoch_ = 1;
  bool zeroed_ = false;
  std::int64_t bytes_read_ = 0;
};

}  // namespace powerprefill
