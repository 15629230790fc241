#include "powerprefill/score.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>

#include "base/checked.hpp"
#include "base/zones.hpp"
#include "layers/chunk.hpp"
#include "plan/chunks.hpp"
#include "plan/memory_plan.hpp"
#include "powerprefill/prefill.hpp"
#include "run/model_state.hpp"
#include "run/run_input.hpp"
#include "run/stop_poll.hpp"
#include "run/unagreed_failure.hpp"
#include "score/token_scores.hpp"

namespace powerprefill {

namespace {

constexpr double kMemoryShare = 0.8;  // of what is available when the weights are loaded

// One score, from checked options to the report. What messages may still write to is part of it.
class ScoreJob {
 public:
  // Both outlive the job.
  ScoreJob(Model::State& model, const ScoreOptions& options)
      : world_(model.world()), model_(model), options_(options) {}

  ScoreReport run();

 private:
  void check_memory(const KvShape& kv, bool zigzag) const;
  std::vector<TokenScore> gather(const std::vector<TokenScore>& mine) const;

  const mpi::Communicator& world_;
  Model::State& model_;
  const ScoreOptions& options_;
  ZoneSeconds zones_{};
  std::optional<Chunk> chunk_;
};

void ScoreJob::check_memory(const KvShape& kv, bool zigzag) const {
  const std::int64_t tokens = std::ssize(options_.tokens);
  const std::int64_t needed = rank_memory(model_.config, kv,
                                          {.tokens = tokens,
                                           .prompt = tokens,
                                           .ranks = world_.size(),
                                           .threads = model_.pool->threads(),
                                           .zigzag = zigzag,
                                           .operand_bytes = operand_bytes(model_.compute)})
                                  .total();
  const std::int64_t there = model_.share_of_memory(kMemoryShare);
  if (needed <= there) return;
  throw Error(ErrorCode::internal,
              fmt::format("out of memory: a rank needs {} MiB for {} tokens and may take {} MiB; "
                          "use more nodes, or a shorter prompt",
                          needed >> 20, tokens, there >> 20));
}

// The scores of all ranks in the order of the prompt, on rank 0.
std::vector<TokenScore> ScoreJob::gather(const std::vector<TokenScore>& mine) const {
  const std::size_t tokens = options_.tokens.size();
  std::vector<LocalRows> ranks;
  std::vector<int> pieces;
  for (int rank = 0; rank < world_.size(); ++rank) {
    ranks.emplace_back(chunk_->partition(), rank);
    std::int64_t scores = 0;
    for (const RowRun& run : ranks.back().runs()) {
      scores += std::min<std::int64_t>(run.end_token, static_cast<std::int64_t>(tokens) - 1) -
                std::min<std::int64_t>(run.begin_token, static_cast<std::int64_t>(tokens) - 1);
    }
    pieces.push_back(checked_cast<int>(scores * static_cast<std::int64_t>(sizeof(TokenScore))));
  }
  std::vector<TokenScore> all(tokens - 1);
  world_.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), pieces);
  if (!world_.is_root()) return {};
  std::vector<TokenScore> ordered(all.size());
  std::size_t next = 0;
  for (const LocalRows& local : ranks) {
    for (const RowRun& run : local.runs()) {
      for (auto p = static_cast<std::size_t>(run.begin_token);
           p < std::min(static_cast<std::size_t>(run.end_token), ordered.size()); ++p) {
        ordered[p] = all[next++];
      }
    }
  }
  return ordered;
}

ScoreReport ScoreJob::run() {
  const RunInput input{options_.tokens, options_.run};
  const std::int64_t count = std::ssize(options_.tokens);
  const bool zigzag = takes_zigzag(options_.run.partition, options_.run.schedule);
  KvShape kv_shape{};
  input.require_same(world_);
  world_.agree([&] {
    input.check();
    input.check_for(model_.config);
    kv_shape = kv_shape_of(model_.config, options_.run, model_.compute);
  });
  model_.load();
  StopPoll poll = StopPoll::make(world_, options_.should_stop, PrefillOptions{}.stop_patience);
  const auto interrupted =
      Error::agreed(ErrorCode::interrupted, "stopped by a signal before the score was known", -1);
  if (poll.is_over()) throw interrupted;
  world_.agree([&] {
    check_memory(kv_shape, zigzag);
    chunk_.emplace(ChunkContext{.model = model_,
                                .schedule = options_.run.schedule,
                                .kv_shape = kv_shape,
                                .zigzag = zigzag,
                                .zones = zones_},
                   options_.tokens, 0, PastSource{});
  });
  const double begin = seconds_now();
  const std::int64_t layers = model_.config.layers;
  const auto show = [&](std::int64_t done) {
    const double seconds = seconds_now() - begin;
    const double left = seconds / static_cast<double>(done) * static_cast<double>(layers - done);
    if (options_.progress) options_.progress({done, layers, 0, count, count, seconds, left});
    return poll.goes_on(done, layers);
  };
  poll.begin_chunk();
  if (!chunk_->run(nullptr, show)) throw interrupted;
  std::vector<TokenScore> mine;
  world_.agree(
      [&] { mine = score_next_tokens(model_.weights, *model_.pool, *chunk_, options_.tokens); });
  ScoreReport report;
  report.scores = gather(mine);
  for (const TokenScore& score : report.scores) report.mean_nll -= score.log_probability;
  report.mean_nll /= static_cast<double>(std::max<std::int64_t>(1, count - 1));
  world_.broadcast_value(report.mean_nll, 0);
  report.perplexity = std::exp(report.mean_nll);
  report.compute = type_of(model_.compute);
  report.kv_type = kv_type_of(kv_shape.dtype);
  report.wall_seconds = world_.max(seconds_now() - begin);
  return report;
}

}  // namespace

ScoreReport score(Model& model, const ScoreOptions& options) {
  auto job = std::make_unique<ScoreJob>(model.state(), options);
  return leak_on_unagreed_failure(model.state().world(), job, [&] { return job->run(); });
}

}  // namespace powerprefill
