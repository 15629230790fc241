// What a Decoder holds; shared by the files that implement it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/zones.hpp"
#include "cache/writer.hpp"
#include "kv/past_blocks.hpp"
#include "layers/chunk.hpp"
#include "layers/row_parallel.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/rope.hpp"
#include "model/rope_frequencies.hpp"
#include "mpi/communicator.hpp"
#include "powerprefill/decode.hpp"
#include "powerprefill/pattern.hpp"
#include "run/loaded_model.hpp"
#include "run/stop_poll.hpp"

namespace powerprefill {

struct Decoder::State {
  explicit State(mpi::Communicator& job) : world(job) {}

  mpi::Communicator& world;
  std::filesystem::path path;
  LoadedModel model;
  Schedule schedule;
  std::optional<PastBlocks> past;
  ZoneSeconds zones{};                                   // of chunks; nobody asks for them
  std::optional<Chunk> chunk;                            // the one that is being prefilled
  std::optional<CacheWriter> writer;                     // with append; its thread reads the chunk
  std::vector<std::shared_ptr<const Pattern>> patterns;  // by layer
  RopeFrequencies frequencies;
  double load_seconds = 0;
  std::int64_t tokens = 0;
  std::int64_t stepped = 0;       // of those since the last commit: decoded, with own heads only
  std::vector<std::int32_t> ids;  // (tokens)
  std::vector<float> logits;
  std::vector<float> last_hidden;  // (E), after the final norm
  // (rows since the last commit, E); rank 0 of a file that saves them
  std::vector<float> new_hidden;
  std::vector<float> hidden;     // (E)
  std::vector<float> normed;     // (E)
  std::vector<float> update;     // (E)
  std::vector<float> projected;  // ((H + 2 G) D), own heads only
  std::vector<float> attended;   // (H D)
  std::vector<float> partial;    // softmax states of runs of key blocks
  std::vector<float> gate;       // (F)
  std::vector<float> up;         // (F)

  void require_fit(const CacheHeader& header) const;
  void open(CacheReader reader, bool append, bool allow_mixed);
  void step(std::int32_t token);
  void attention(std::int64_t layer, const RopeTable& rope);
  void attend(std::int64_t layer, const OutputRange& kv_heads);
  void feed_forward(std::int64_t layer);
  void residual(const Linear& linear, const float* x);
  std::int64_t fed() const { return tokens - past->file_tokens(); }  // since the last commit
  void require_known(std::int32_t token) const;
  void extend_file(std::span<const std::int32_t> more, StopPoll& poll);
  void extend_memory(std::span<const std::int32_t> more, StopPoll& poll);
  void extend(std::span<const std::int32_t> more, StopPoll& poll);
  std::int64_t drop_chunk();
  [[noreturn]] void interrupt(std::int64_t new_tokens);
  void start_chunk(std::int64_t end);
  void finish_chunk();
  void reopen();
  void make_room(std::int64_t needed);
};

}  // namespace powerprefill
