// How much of the exchange hides behind the computation: the layers of a prefill with the exchange
// as it is, with one that waits for its blocks first, and with none (wrong results), in turns.
// Usage: mpirun -np P bench_overlap MODEL TOKENS PATTERN THREADS [ROUNDS]; at least 2 ranks.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "engine/chunk.hpp"
#include "harness.hpp"
#include "mpi/session.hpp"

namespace powerprefill::bench {
namespace {

constexpr std::array<Transfer, 3> kTransfers = {Transfer::overlapped, Transfer::blocking,
                                                Transfer::none};

struct Run {
  double seconds = 0;  // slowest rank
  std::int64_t bytes_received = 0;
  std::vector<float> logits;
};

Run run_once(const mpi::Communicator& world, const LoadedModel& model, const Schedule& schedule,
             std::span<const std::int32_t> tokens, Transfer transfer) {
  ZoneSeconds zones{};
  const KvShape kv = {schedule.block, model.config.kv_heads, model.config.head_dim,
                      *dtype_from_name(name_of(model.compute))};
  Chunk chunk({.world = world,
               .model = model,
               .schedule = schedule,
               .kv_shape = kv,
               .zigzag = takes_zigzag("auto", schedule),
               .zones = zones,
               .transfer = transfer},
              tokens, 0, nullptr);
  world.barrier();
  const double begin = seconds_now();
  chunk.run({.take = [](std::int64_t, const LocalRows&, KvBlocks&) {},
             .wait = [](const KvBlocks&) {},
             .goes_on = [](std::int64_t) { return true; }});
  Run run;
  run.seconds = world.max(seconds_now() - begin);
  run.bytes_received = world.max(chunk.bytes_received());
  run.logits = chunk.last().logits;
  return run;
}

void run(const mpi::Communicator& world, const ModelOptions& options, std::int64_t count,
         const std::string& pattern, int rounds) {
  const LoadedModel model = load_model(world, options);
  Schedule schedule;
  schedule.layers.assign(static_cast<std::size_t>(model.config.layers), default_spec(pattern));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  std::mt19937 random(1);
  for (std::int32_t& token : tokens) {
    token =
        static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(model.config.vocabulary));
  }
  std::map<Transfer, std::vector<double>> seconds;
  std::map<Transfer, Run> last;
  for (int round = 0; round < rounds; ++round) {
    for (const Transfer transfer : kTransfers) {
      last[transfer] = run_once(world, model, schedule, tokens, transfer);
      seconds[transfer].push_back(last[transfer].seconds);
    }
  }
  require(last[Transfer::overlapped].logits == last[Transfer::blocking].logits,
          "the logits are others when the blocks are waited for first");
  require(last[Transfer::overlapped].logits != last[Transfer::none].logits,
          "the logits are the same without an exchange");
  if (!world.is_root()) return;
  const double none = median(seconds[Transfer::none]);
  const double waiting = median(seconds[Transfer::blocking]) - none;
  const double left = median(seconds[Transfer::overlapped]) - none;
  const std::string name = fmt::format("{} {} tokens {} ranks", pattern, count, world.size());
  csv("overlap", name, "without exchange", none, "s");
  csv("overlap", name, "blocking exchange adds", waiting, "s");
  csv("overlap", name, "overlapped exchange adds", left, "s");
  csv("overlap", name, "received by a rank",
      static_cast<double>(last[Transfer::overlapped].bytes_received), "bytes");
  csv("overlap", name, "hidden", 1 - left / waiting, "ratio");
}

}  // namespace
}  // namespace powerprefill::bench

int main(int argc, char** argv) {
  using namespace powerprefill;
  if (argc < 5) {
    fmt::print(stderr, "usage: mpirun -np P {} MODEL TOKENS PATTERN THREADS [ROUNDS]\n", argv[0]);
    return 2;
  }
  mpi::Session session;
  ModelOptions options;
  options.folder = argv[1];
  options.threads = std::atoi(argv[4]);
  bench::run(session.world(), options, std::atoll(argv[2]), argv[3],
             argc > 5 ? std::atoi(argv[5]) : 3);
  return 0;
}
