// Attention of one layer on one rank, advancing as key blocks arrive.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/thread_pool.hpp"
#include "kv/layer_kv.hpp"
#include "math/attention/attention.hpp"
#include "math/attention/bf16_attention.hpp"
#include "partition/block_selection.hpp"
#include "partition/partition.hpp"

namespace powerprefill {

// Queries and softmax states of all local blocks: stacks of (H/G B, D), one per (key/value head,
// local block), see math/attention/attention.hpp.
//
// Each stack merges its key blocks strictly in descending order. advance() takes every stack as far
// as the blocks that are here allow, so the order of arrival changes only when work is done, never
// its result.
class BlockAttention {
 public:
  BlockAttention(const Partition& partition, int rank, const AttentionShape& shape,
                 const KvShape& kv_shape, int threads);

  // Where the query of head `head` at row `token` of a local block goes, as operands, (D).
  void* query(std::int64_t head, std::int64_t local_block, std::int64_t token) {
    return query_.data() +
           row_of(head, local_block, token) * columns_ * operand_bytes(shape_.compute);
  }

  // Forgets the states; the layer to come attends to the blocks of `selection`, which stays until
  // is_done().
  void begin(ThreadPool& pool, const BlockSelection& selection);
  // Merges what is here: `find` gives a key block, or nullptr while it is not here. `between` is
  // called on the calling thread between stacks.
  using FindBlock = std::function<const KvBlockView*(std::int64_t block)>;
  void advance(ThreadPool& pool, const FindBlock& find, const std::function<void()>& between);
  bool is_done() const { return unfinished_ == 0; }
  // The highest key block that is still to be merged by any stack; -1 when all is done.
  std::int64_t highest_pending() const;

  // The result of query head `head` at row `token` of a local block, divided by the softmax sum,
  // (D).
  void read_result(std::int64_t head, std::int64_t local_block, std::int64_t token,
                   float* out) const;

  // (query block, key block) pairs merged so far, over all layers, of a key/value head on average.
  std::int64_t pairs() const { return pairs_ / kv_shape_.kv_heads; }
  // Useful pairs of a query token and a key token that it sees, over all layers, likewise.
  std::int64_t token_pairs() const { return token_pairs_ / kv_shape_.kv_heads; }
  std::int64_t bytes() const;

 private:
  struct Cursor {  // of one local block; the heads of a group advance together
    std::int64_t group;
    std::int64_t local_block;
    std::span<const std::int64_t> keys;  // descending
    std::size_t merged = 0;              // of `keys`
  };
  struct Scratch {
    std::optional<Bf16Scratch> bf16;
    std::optional<AttentionScratch> f32;
    AlignedBuffer<float> key;    // (B, D), where the block is not f32 as it should be
    AlignedBuffer<float> value;  // (B, D)
  };

  std::int64_t stack(std::int64_t kv_head, std::int64_t local_block) const {
    return kv_head * static_cast<std::int64_t>(blocks_.size()) + local_block;
  }
  std::int64_t row_of(std::int64_t head, std::int64_t local_block, std::int64_t token) const {
    return stack(head / shape_.group_heads, local_block) * rows_ +
           head % shape_.group_heads * shape_.block + token;
  }
  MatrixView f32_view(const std::byte* block, std::int64_t kv_head, AlignedBuffer<float>& scratch);
  void merge(std::int64_t kv_head, std::int64_t local_block, std::int64_t key,
             const KvBlockView& view, Scratch& scratch);

  const Partition& partition_;
  AttentionShape shape_;
  KvShape kv_shape_;
  std::vector<GlobalBlock> blocks_;  // by local block
  std::vector<Cursor> cursors_;      // (groups, local blocks)
  std::int64_t group_kv_heads_ = 1;  // key/value heads of a group
  std::int64_t rows_;                // H/G B, padded for bf16
  std::int64_t columns_;             // D, padded for bf16
  AlignedBuffer<std::byte> query_;   // (G, local blocks, rows, columns) of operands
  AlignedBuffer<float> out_;         // (G, local blocks, rows, columns)
  AlignedBuffer<float> maximum_;     // (G, local blocks, rows)
  AlignedBuffer<float> sum_;         // like maximum_
  std::vector<Scratch> scratch_;     // per thread
  std::int64_t unfinished_ = 0;      // cursors
  std::int64_t pairs_ = 0;           // summed over key/value heads
  std::int64_t token_pairs_ = 0;     // likewise
};

}  // namespace powerprefill
