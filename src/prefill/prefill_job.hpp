// One prefill, from checked options to the last commit.
#pragma once

#include <cstdint>
#include <optional>

#include "base/zones.hpp"
#include "cache/reader.hpp"
#include "cache/writer.hpp"
#include "files/output_file.hpp"
#include "layers/chunk.hpp"
#include "plan/memory_plan.hpp"
#include "powerprefill/prefill.hpp"
#include "run/model_state.hpp"
#include "run/run_input.hpp"
#include "run/stop_poll.hpp"

namespace powerprefill {

class PrefillJob {
 public:
  // Both outlive the job.
  PrefillJob(Model::State& model, const PrefillOptions& options)
      : world_(model.world()),
        options_(options),
        input_{options.tokens, options.run},
        model_(model) {}

  PrefillJob(const PrefillJob&) = delete;
  PrefillJob& operator=(const PrefillJob&) = delete;
  ~PrefillJob() {
    if (trace_) model_.pool->set_trace(nullptr);
  }

  // Collective.
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

  mpi::Communicator& world_;
  const PrefillOptions& options_;
  RunInput input_;
  OutputFile trace_file_;       // on rank 0
  std::optional<Trace> trace_;  // outlives all that adds to it
  Model::State& model_;
  KvShape kv_shape_{};
  bool zigzag_ = false;
  TraceRow* past_row_ = nullptr;
  std::optional<CacheReader> past_;  // outlives chunk_
  std::optional<Chunk> chunk_;
  std::optional<CacheWriter> writer_;  // after the buffers that its thread reads
  std::int64_t done_ = 0;              // tokens whose keys and values are in a file
  std::optional<StopPoll> poll_;
  ZoneSeconds zones_{};
  double begin_ = 0;
  PrefillReport report_;
  RankReport mine_;
};

}  // namespace powerprefill
