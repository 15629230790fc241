#include "powerprefill/score.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>

#include "base/checked.hpp"
#include "base/zones.hpp"
#include "layers/chunk.hpp"
#include "mpi/session.hpp"
#include "plan/memory_plan.hpp"
#include "run/run_input.hpp"
#include "run/stop_poll.hpp"
#include "run/unagreed_failure.hpp"
#include "score/token_scores.hpp"

namespace powerprefill {

struct Scorer::State {
  Session& session;
  LoadedModel model;
  ZoneSeconds zones{};
  std::optional<Chunk> chunk = {};

  ScoreReport run(const ScoreOptions& options);
  void check_memory(const KvShape& kv, std::int64_t tokens, bool zigzag) const;
  std::vector<TokenScore> gather(const std::vector<TokenScore>& mine, std::size_t tokens) const;
};

namespace {

constexpr double kMemoryShare = 0.8;  // of what is available when the weights are loaded

}  // namespace

void Scorer::State::check_memory(const KvShape& kv, std::int64_t tokens, bool zigzag) const {
  const std::int64_t needed = rank_memory(model.config, kv,
                                          {.tokens = tokens,
                                           .prompt = tokens,
                                           .ranks = session.ranks(),
                                           .threads = model.pool->threads(),
                                           .zigzag = zigzag,
                                           .operand_bytes = operand_bytes(model.compute)})
                                  .total();
  const std::int64_t there = model.share_of_memory(kMemoryShare);
  if (needed <= there) return;
  throw Error(ErrorCode::internal,
              fmt::format("out of memory: a rank needs {} MiB for {} tokens and may take {} MiB; "
                          "use more nodes, or a shorter prompt",
                          needed >> 20, tokens, there >> 20));
}

// The scores of all ranks in the order of the prompt, on rank 0.
std::vector<TokenScore> Scorer::State::gather(const std::vector<TokenScore>& mine,
                                              std::size_t tokens) const {
  const mpi::Communicator& world = session.mpi().world();
  std::vector<LocalRows> ranks;
  std::vector<int> pieces;
  for (int rank = 0; rank < world.size(); ++rank) {
    ranks.emplace_back(chunk->partition(), rank);
    std::int64_t scores = 0;
    for (const RowRun& run : ranks.back().runs()) {
      scores += std::min<std::int64_t>(run.end_token, static_cast<std::int64_t>(tokens) - 1) -
                std::min<std::int64_t>(run.begin_token, static_cast<std::int64_t>(tokens) - 1);
    }
    pieces.push_back(checked_cast<int>(scores * static_cast<std::int64_t>(sizeof(TokenScore))));
  }
  std::vector<TokenScore> all(tokens - 1);
  world.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), pieces);
  if (!world.is_root()) return {};
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

ScoreReport Scorer::State::run(const ScoreOptions& options) {
  const mpi::Communicator& world = session.mpi().world();
  const RunInput input{options.tokens, options.schedule, options.partition, options.kv_dtype};
  const auto count = static_cast<std::int64_t>(options.tokens.size());
  const bool zigzag = takes_zigzag(options.partition, options.schedule);
  KvShape kv_shape{};
  chunk.reset();  // of a prompt that failed
  input.require_same(world);
  StopPoll poll = StopPoll::make(world, options.should_stop, PrefillOptions{}.stop_patience);
  const auto interrupted =
      Error::agreed(ErrorCode::interrupted, "stopped by a signal before the score was known", -1);
  if (poll.is_over()) throw interrupted;
  world.agree([&] {
    input.check();
    input.check_for(model.config);
    kv_shape = input.kv_shape(model);
    check_memory(kv_shape, count, zigzag);
    chunk.emplace(Chunk::Context{.world = world,
                                 .model = model,
                                 .schedule = options.schedule,
                                 .kv_shape = kv_shape,
                                 .zigzag = zigzag,
                                 .zones = zones},
                  options.tokens, 0, PastSource{});
  });
  const double begin = seconds_now();
  const std::int64_t layers = model.config.layers;
  const auto show = [&](std::int64_t done) {
    const double seconds = seconds_now() - begin;
    const double left = seconds / static_cast<double>(done) * static_cast<double>(layers - done);
    if (options.progress) options.progress({done, layers, 0, count, count, seconds, left});
    return poll.goes_on(done, layers);
  };
  poll.begin_chunk();
  const bool whole = chunk->run({.take = [](std::int64_t, const LocalRows&, KvBlocks&) {},
                                 .wait = [](const KvBlocks&) {},
                                 .goes_on = show});
  if (!whole) {
    chunk.reset();
    throw interrupted;
  }
  std::vector<TokenScore> mine;
  world.agree([&] { mine = score_next_tokens(model, chunk->forward(), options.tokens); });
  ScoreReport report;
  report.scores = gather(mine, options.tokens.size());
  for (const TokenScore& score : report.scores) report.mean_nll -= score.log_probability;
  report.mean_nll /= static_cast<double>(std::max<std::int64_t>(1, count - 1));
  report.perplexity = std::exp(report.mean_nll);
  report.compute = name_of(model.compute);
  report.kv_dtype = name_of(kv_shape.dtype);
  chunk.reset();
  report.wall_seconds = world.max(seconds_now() - begin);
  return report;
}

Scorer::Scorer(Session& session, const ModelOptions& model)
    : state_(new State{session, load_model(session.mpi(), model)}) {}
Scorer::~Scorer() = default;
Scorer::Scorer(Scorer&&) noexcept = default;
Scorer& Scorer::operator=(Scorer&&) noexcept = default;

ScoreReport Scorer::run(const ScoreOptions& options) {
  return leak_on_unagreed_failure(state_->session.mpi().world(), state_,
                                  [&] { return state_->run(options); });
}

}  // namespace powerprefill
