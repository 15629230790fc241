// One chunk of a prompt on all ranks: tokens [begin, end) through all layers, against their past.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/zones.hpp"
#include "kv/past_source.hpp"
#include "layers/chunk_attention.hpp"
#include "layers/chunk_output.hpp"
#include "layers/tiled_rows.hpp"
#include "layers/transformer.hpp"
#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"

namespace powerprefill {

// Prefill of one chunk. run() and last() are collective.
//
// The blocks of the chunk are split over the ranks and travel by MPI. Key blocks before the chunk
// come from where the caller keeps them: the cache file below its last commit, each block checked.
// A chunk may begin within a block: the rank that owns this block reads its earlier rows too.
class Chunk {
 public:
  // `tokens` is the prompt up to the end of the chunk, (end). `past` has at least `begin` tokens,
  // and exactly as many when `begin` is not the first of a block.
  Chunk(const ChunkContext& context, std::span<const std::int32_t> tokens, std::int64_t begin,
        PastSource past);
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  // Takes all layers; keys and values go to `output` (nullptr: nowhere). `goes_on` is asked after
  // each layer, and has to give the same answer on every rank: false drops the chunk, and so run()
  // returns false.
  bool run(ChunkOutput* output, ChunkAttention::GoesOn goes_on);
  // The final hidden state of the last token, (E), and the logits after it, (V), on every rank.
  struct Last {
    std::vector<float> hidden;
    std::vector<float> logits;
  };
  Last last();
  // Final hidden states of the tokens of this rank, each run from its first block's first row on,
  // (rows, E). They stay for as long as the chunk.
  std::span<const float> hidden_rows();

  const Partition& partition() const { return partition_; }
  const LocalRows& rows() const { return rows_.local(); }
  const Transformer& transformer() const { return transformer_; }
  const ChunkAttention& attention() const { return attention_; }
  std::int64_t bytes() const;  // of its buffers

 private:
  ChunkContext context_;
  std::span<const std::int32_t> tokens_;
  PastSource past_;
  Partition partition_;
  TiledRows rows_;
  ChunkAttention attention_;
  Transformer transformer_;
  AlignedBuffer<float> hidden_rows_;  // once they were asked for
};

}  // namespace powerprefill
