// Attention of a chunk: key blocks come from other ranks by MPI, and from the past.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/zones.hpp"
#include "kv/kv_exchange.hpp"
#include "kv/layer_kv.hpp"
#include "kv/past_source.hpp"
#include "kv/past_stream.hpp"
#include "layers/block_attention.hpp"
#include "layers/chunk_output.hpp"
#include "layers/layer_attention.hpp"
#include "layers/local_rows.hpp"
#include "partition/block_selection.hpp"
#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"
#include "run/model_state.hpp"

namespace powerprefill {

// What the chunks of a run have in common. All of it outlives the chunk.
struct ChunkContext {
  const Model::State& model;
  const Schedule& schedule;
  KvShape kv_shape;
  bool zigzag;
  ZoneSeconds& zones;
  Transfer transfer = Transfer::overlapped;
  TraceRow* past_row = nullptr;  // of the thread that reads the past, in a trace
};

class ChunkAttention : public LayerAttention {
 public:
  // All of it outlives this. `rows`: those of the rank; `past` as for Chunk.
  ChunkAttention(const ChunkContext& context, const Partition& partition, const LocalRows& rows,
                 const PastSource& past);

  // Where the next run's keys and values go (nullptr: nowhere), and what is asked after each layer.
  using GoesOn = std::function<bool(std::int64_t layers_done)>;
  void start(ChunkOutput* output, GoesOn goes_on);
  // Makes progress of messages; called between tasks.
  void poll();

  DType kv_dtype() const override { return context_.kv_shape.dtype; }
  KvSpan key_value(const Row& row) override;
  void take_keys(std::int64_t layer, const std::function<void()>& fill) override;
  void set_query(std::int64_t head, const Row& row, const float* query) override;
  void attend(std::int64_t layer) override;
  void read_result(std::int64_t head, const Row& row, float* out) const override;
  bool finish(std::int64_t layer) override;

  const BlockAttention& blocks() const { return attention_; }
  std::int64_t bytes() const;  // of its buffers
  std::int64_t bytes_received() const;
  std::int64_t bytes_planned() const;
  std::int64_t past_bytes_read() const { return past_stream_ ? past_stream_->bytes_read() : 0; }
  std::vector<int> peers() const;  // ranks that shares come from, ascending

 private:
  // Of the layers that share a pattern: what their queries attend to, and how it gets here.
  struct LayerPattern {
    PatternSpec spec;
    BlockSelection selection;
    ExchangePlan plan;
    std::unique_ptr<KvExchange> exchange;
    std::vector<std::int64_t> past;  // blocks that this rank needs, descending
    std::int64_t layers = 0;         // that have been exchanged
  };

  void plan_patterns();
  LayerPattern& pattern_of(std::int64_t layer);
  void read_ahead(std::int64_t layer);
  void read_first_block(std::int64_t layer, KvBlocks& kv);

  const ChunkContext& context_;
  const Partition& partition_;
  const LocalRows& local_;
  const PastSource& past_;
  std::vector<LayerPattern> patterns_;
  BlockAttention attention_;
  KvBlocks kv_[2];  // layers in turn: one is computed while the other is written
  KvSpan rows_{};   // of the layer, all of this rank
  std::optional<PastStream> past_stream_;
  ChunkOutput* output_ = nullptr;
  GoesOn goes_on_;
};

}  // namespace powerprefill
