// One prefill, from checked options to the last commit.
#pragma once

#include <cstdint>
#include <optional>

#include "base/zones.hpp"
#include "cache/reader.hpp"
#include "cache/writer.hpp"
#include "files/output_file.hpp"
#include "layers/chunk.hpp"
#include "mpi/session.hpp"
#include "plan/memory_plan.hpp"
#include "powerprefill/prefill.hpp"
#include "run/loaded_model.hpp"
#include "run/run_input.hpp"
#include "run/stop_poll.hpp"

namespace powerprefill {

class PrefillJob {
 public:
  // Collective. `loaded` outlives the job, and is the model of the options; nullptr: the job loads
  // its own.
  PrefillJob(mpi::Session& session, const PrefillOptions& options, LoadedModel* loaded = nullptr)
      : session_(session),
        world_(session.world()),
        options_(options),
        input_{options.tokens, options.schedule, options.partition, options.kv_dtype},
        is_loaded_(loaded != nullptr),
        model_(loaded != nullptr ? *loaded : own_model_),
        poll_(StopPoll::make(world_, options.should_stop, options.stop_patience)) {}

  PrefillJob(const PrefillJob&) = delete;
  PrefillJob& operator=(const PrefillJob&) = delete;
  ~PrefillJob() {
    if (trace_) model_.pool->set_trace(nullptr);
  }

  PrefillReport run();

 private:
  void check_options();
  void check_output();
  void open_cache();
  CacheHeader header() const;
  bool is_resumable() const;
  void require_resumable(const CacheReader& file) const;
  std::int64_t reusable_tokens(const CacheReader& file) const;
  void resume();
  void create();
  void choose_chunk();
  bool run_chunk(std::int64_t end);
  void commit_chunk();
  bool goes_on(std::int64_t layers_done);
  void note(const std::string& text) const;
  void show_progress(std::int64_t layers_done) const;
  [[noreturn]] void stop() const;
  ChunkShape chunk_shape(std::int64_t tokens) const;
  void count_chunk();
  void finish_report();
  void start_trace();
  void write_trace();
  std::int64_t prompt_tokens() const { return static_cast<std::int64_t>(options_.tokens.size()); }

  mpi::Session& session_;
  mpi::Communicator& world_;
  const PrefillOptions& options_;
  RunInput input_;
  OutputFile trace_file_;       // on rank 0
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
  StopPoll poll_;
  ZoneSeconds zones_{};
  double begin_ = 0;
  PrefillReport report_;
  RankReport mine_;
};

}  // namespace powerprefill
