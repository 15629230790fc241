// One prefill, from checked options to the last commit.
#pragma once

#include <cstdint>
#include <optional>

#include "base/zones.hpp"
#include "cache/reader.hpp"
#include "cache/writer.hpp"
#include "engine/chunk.hpp"
#include "engine/loaded_model.hpp"
#include "engine/memory_plan.hpp"
#include "engine/run_input.hpp"
#include "mpi/communicator.hpp"
#include "mpi/vote.hpp"
#include "powerprefill/prefill.hpp"

namespace powerprefill {

class PrefillJob {
 public:
  // `loaded` outlives the job, and is the model of the options; nullptr: the job loads its own.
  PrefillJob(mpi::Communicator& world, const PrefillOptions& options, LoadedModel* loaded = nullptr)
      : world_(world),
        options_(options),
        input_{options.tokens, options.schedule, options.partition, options.kv_dtype},
        is_loaded_(loaded != nullptr),
        model_(loaded != nullptr ? *loaded : own_model_),
        vote_(world) {}

  PrefillJob(const PrefillJob&) = delete;
  PrefillJob& operator=(const PrefillJob&) = delete;
  ~PrefillJob() {
    if (trace_) model_.pool->set_trace(nullptr);
  }

  PrefillReport run();

 private:
  // What a rank answers to the question whether to stop; the largest answer counts.
  enum StopVote : std::int64_t { go_on = 0, finish_chunk = 1, drop_chunk = 2 };

  void check_options();
  void open_cache();
  bool is_resumable() const;
  void resume(const CacheHeader& header);
  void create(CacheHeader header);
  void choose_chunk();
  bool run_chunk(std::int64_t end);
  void commit_chunk();
  bool goes_on(std::int64_t layers_done);
  bool shall_stop() const;
  void show_progress(std::int64_t layers_done) const;
  [[noreturn]] void stop() const;
  ChunkShape chunk_shape(std::int64_t tokens) const;
  void count_chunk();
  void finish_report();
  void start_trace();
  void write_trace() const;
  std::int64_t prompt_tokens() const { return static_cast<std::int64_t>(options_.tokens.size()); }

  mpi::Communicator& world_;
  const PrefillOptions& options_;
  RunInput input_;
  std::optional<Trace> trace_;  // outlives all that adds to it
  LoadedModel own_model_;
  bool is_loaded_;
  LoadedModel& model_;
  KvShape kv_shape_{};
  bool zigzag_ = false;
  TraceRow* past_row_ = nullptr;
  std::optional<CacheReader> past_;  // outlives chunk_
  std::optional<Chunk> chunk_;
  std::optional<CacheWriter> writer_;  // after the buffers that its thread reads
  std::int64_t done_ = 0;              // tokens whose keys and values are in a file
  mpi::Vote vote_;
  StopVote verdict_ = go_on;
  ZoneSeconds zones_{};
  double begin_ = 0;
  double chunk_begin_ = 0;
  PrefillReport report_;
  RankReport mine_;
};

}  // namespace powerprefill
