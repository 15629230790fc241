// One chunk of a prompt on all ranks: tokens [begin, end) through all layers, against their past.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/zones.hpp"
#include "kv/kv_exchange.hpp"
#include "kv/layer_kv.hpp"
#include "kv/past_source.hpp"
#include "kv/past_stream.hpp"
#include "layers/layer_forward.hpp"
#include "mpi/communicator.hpp"
#include "partition/partition.hpp"
#include "powerprefill/pattern.hpp"
#include "run/loaded_model.hpp"

namespace powerprefill {

// The past that a rank reads ahead of its use, in bytes.
inline constexpr std::int64_t kPastBudget = std::int64_t{96} << 20;

// Whether blocks are dealt out in a zigzag: `partition` as in PrefillOptions; auto takes it when
// the schedule has a full layer.
bool takes_zigzag(const std::string& partition, const Schedule& schedule);
// The split of a chunk over the ranks, with rank boundaries at tile boundaries where it can be.
Partition chunk_partition(TokenRange tokens, std::int64_t block, int ranks, bool zigzag);
// Where a chunk of at most `chunk_tokens` that begins anywhere ends: at a block, or at `end`.
std::int64_t end_of_chunk(std::int64_t begin, std::int64_t chunk_tokens, std::int64_t block,
                          std::int64_t end);

// Prefill of one chunk. All of its calls are collective.
//
// The blocks of the chunk are split over the ranks and travel by MPI. Key blocks before the chunk
// come from where the caller keeps them: the cache file below its last commit, each block checked.
// A chunk may begin within a block: the rank that owns this block reads its earlier rows too.
class Chunk {
 public:
  // What the chunks of a run have in common. All of it outlives the chunk.
  struct Context {
    const mpi::Communicator& world;
    const LoadedModel& model;
    const Schedule& schedule;
    KvShape kv_shape;
    bool zigzag;
    ZoneSeconds& zones;
    Transfer transfer = Transfer::overlapped;
    TraceRow* past_row = nullptr;  // of the thread that reads the past, in a trace
  };
  // Where the keys and values go.
  struct Sink {
    // Takes the layer's rows: those of each run of `rows` from its first block's first row on, end
    // to end in `kv`. They may be read until wait() is called with the same `kv`.
    std::function<void(std::int64_t layer, const LocalRows& rows, KvBlocks& kv)> take;
    std::function<void(const KvBlocks& kv)> wait;
    // Called after each layer; false drops the chunk. The same answer on every rank.
    std::function<bool(std::int64_t layers_done)> goes_on;
  };

  // `tokens` is the prompt up to the end of the chunk, (end). `past` has at least `begin` tokens,
  // and exactly as many when `begin` is not the first of a block.
  Chunk(const Context& context, std::span<const std::int32_t> tokens, std::int64_t begin,
        PastSource past);

  // Takes all layers. Returns false when the sink has dropped the chunk.
  bool run(const Sink& sink);
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
  const LayerForward& forward() const { return *forward_; }
  std::int64_t bytes() const;  // of its buffers
  std::int64_t bytes_received() const;
  std::int64_t bytes_planned() const;
  std::int64_t past_bytes_read() const { return past_stream_ ? past_stream_->bytes_read() : 0; }
  std::vector<int> peers() const;  // ranks that shares come from, ascending

 private:
  // The exchange of the layers that share a pattern.
  struct PatternExchange {
    PatternSpec spec;
    std::shared_ptr<const Pattern> pattern;
    ExchangePlan plan;
    std::unique_ptr<KvExchange> exchange;
    std::vector<std::int64_t> past;  // blocks that this rank needs, descending
    std::int64_t layers = 0;         // that have been exchanged
  };

  void plan_patterns();
  PatternExchange& exchange_of(std::int64_t layer);
  void read_ahead(std::int64_t layer);
  void read_first_block(std::int64_t layer, KvBlocks& kv);

  Context context_;
  std::span<const std::int32_t> tokens_;
  PastSource past_;
  Partition partition_;
  std::vector<PatternExchange> patterns_;
  std::optional<LayerForward> forward_;
  KvBlocks kv_[2];  // layers in turn: one is computed while the other is written
  std::optional<PastStream> past_stream_;
  AlignedBuffer<float> hidden_rows_;  // once they were asked for
};

}  // namespace powerprefill
