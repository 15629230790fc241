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
#include "decode/cached_attention.hpp"
#include "kv/past_blocks.hpp"
#include "layers/chunk.hpp"
#include "layers/shared_row.hpp"
#include "powerprefill/decode.hpp"
#include "powerprefill/pattern.hpp"
#include "run/model_state.hpp"
#include "run/stop_poll.hpp"

namespace powerprefill {

struct Decoder::State {
  State(Model::State& of, const std::filesystem::path& cache)
      : model(of), world(of.world()), path(cache) {}

  Model::State& model;  // wherever its Model is moved to
  mpi::Communicator& world;
  std::filesystem::path path;
  Schedule schedule;  // of the file, and of rows that are prefilled
  // By layer: what a decoded token attends to. That of the file; another would be as good, since
  // only rows that are computed later depend on it.
  std::vector<std::shared_ptr<const Pattern>> patterns;
  std::optional<PastBlocks> past;
  std::optional<SharedRow> row;
  std::optional<CachedAttention> attention;
  ZoneSeconds zones{};                // nobody asks for them
  std::optional<Chunk> chunk;         // the one that is being prefilled
  std::optional<CacheWriter> writer;  // with append; its thread reads the chunk
  std::int64_t tokens = 0;
  std::int64_t stepped = 0;       // of those since the last commit: decoded, with own heads only
  std::vector<std::int32_t> ids;  // (tokens)
  std::vector<float> logits;
  std::vector<float> last_hidden;  // (E), after the final norm
  // (rows since the last commit, E); rank 0 of a file that saves them
  std::vector<float> new_hidden;

  // decode.cpp
  void require_fit(const CacheHeader& header) const;
  void open(CacheReader reader, bool append);
  void require_known(std::int32_t token) const;
  void step(std::int32_t token);
  void commit();
  void reopen();
  void make_room(std::int64_t needed);
  std::int64_t fed() const { return tokens - past->file_tokens(); }  // since the last commit

  // extend.cpp
  void extend(std::span<const std::int32_t> more, StopPoll& poll);
  void extend_file(std::span<const std::int32_t> more, StopPoll& poll);
  void extend_memory(std::span<const std::int32_t> more, StopPoll& poll);
  void start_chunk(std::int64_t end);
  bool run_chunk(ChunkOutput& output, StopPoll& poll);
  void finish_chunk();
  std::int64_t drop_chunk();
  [[noreturn]] void interrupt(std::int64_t new_tokens);
};

}  // namespace powerprefill
