// What exchange and cache cost beside the computation: the layers of a prefill with the exchange as
// it is, with one that waits for its blocks first, with none (wrong results), and with a cache file
// that is created, written and committed; in turns.
// Usage: mpirun -np P bench_overlap MODEL TOKENS PATTERN THREADS [ROUNDS [FOLDER FOR THE CACHE]]
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "cache/writer.hpp"
#include "harness.hpp"
#include "layers/chunk.hpp"
#include "plan/chunks.hpp"
#include "plan/memory_plan.hpp"
#include "powerprefill/model.hpp"
#include "prefill/cache_output.hpp"
#include "run/cache_identity.hpp"

namespace powerprefill::bench {
namespace {

struct Run {
  std::vector<double> seconds;  // slowest rank, by round
  std::int64_t bytes_received = 0;
  std::vector<float> logits;
  // What others do on the machine only adds.
  double lowest() const { return *std::min_element(seconds.begin(), seconds.end()); }
};

class Layers {
 public:
  Layers(Session& session, const ModelOptions& options, std::int64_t count,
         const std::string& pattern)
      : owner_(session, options), model_(owner_.state()), world_(model_.world()) {
    owner_.load();
    schedule_.layers.assign(static_cast<std::size_t>(model_.config.layers), default_spec(pattern));
    kv_ = kv_shape_of(model_.config, {.schedule = schedule_}, model_.compute);
    std::mt19937 random(1);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t id = random() % static_cast<std::uint64_t>(model_.config.vocabulary);
      tokens_.push_back(static_cast<std::int32_t>(id));
    }
  }

  // Into a cache file at `path`, if there is one.
  void run(Transfer transfer, const std::filesystem::path& path, Run& run) const {
    ZoneSeconds zones{};
    Chunk chunk({.model = model_,
                 .schedule = schedule_,
                 .kv_shape = kv_,
                 .zigzag = takes_zigzag(BlockPartition::automatic, schedule_),
                 .zones = zones,
                 .transfer = transfer},
                tokens_, 0, PastSource{});
    const auto count = static_cast<std::int64_t>(tokens_.size());
    const auto goes_on = [](std::int64_t) { return true; };
    world_.barrier();
    const double begin = seconds_now();
    if (path.empty()) {
      chunk.run(nullptr, goes_on);
      run.logits = chunk.last().logits;
    } else {
      CacheHeader header = header_for(model_, schedule_, kv_.dtype);
      header.capacity = (count + kv_.block - 1) / kv_.block * kv_.block;
      CacheWriter writer = CacheWriter::create(world_, path, header, true);
      CacheOutput output(writer);
      chunk.run(&output, goes_on);
      output.finish(chunk);
      const Chunk::Last last = chunk.last();
      writer.commit(count, tokens_, last.logits, last.hidden);
      run.logits = last.logits;
    }
    run.seconds.push_back(world_.max(seconds_now() - begin));
    run.bytes_received = world_.max(chunk.attention().bytes_received());
  }

 private:
  Model owner_;
  Model::State& model_;
  const mpi::Communicator& world_;
  Schedule schedule_;
  KvShape kv_{};
  std::vector<std::int32_t> tokens_;
};

void run(const mpi::Communicator& world, const Layers& layers, const std::string& name, int rounds,
         const std::filesystem::path& folder) {
  Run overlapped;
  Run blocking;
  Run none;
  Run cached;
  const std::filesystem::path cache = folder.empty() ? folder : folder / "bench.h5";
  for (int round = 0; round < rounds; ++round) {
    layers.run(Transfer::overlapped, {}, overlapped);
    if (!cache.empty()) layers.run(Transfer::overlapped, cache, cached);
    if (world.size() == 1) continue;
    layers.run(Transfer::blocking, {}, blocking);
    layers.run(Transfer::none, {}, none);
  }
  if (!world.is_root()) return;
  csv("overlap", name, "without cache", overlapped.lowest(), "s");
  if (!cache.empty()) {
    require(cached.logits == overlapped.logits, "a cache changes the logits");
    csv("overlap", name, "cache adds", cached.lowest() / overlapped.lowest() - 1, "ratio");
    std::filesystem::remove(cache);
  }
  if (world.size() == 1) return;
  require(overlapped.logits == blocking.logits, "waiting for the blocks changes the logits");
  require(overlapped.logits != none.logits, "an exchange does not change the logits");
  const double waiting = blocking.lowest() - none.lowest();
  const double left = overlapped.lowest() - none.lowest();
  csv("overlap", name, "blocking exchange adds", waiting / none.lowest(), "ratio");
  csv("overlap", name, "overlapped exchange adds", left / none.lowest(), "ratio");
  csv("overlap", name, "exchange hidden", 1 - left / waiting, "ratio");
  csv("overlap", name, "received by a rank", static_cast<double>(overlapped.bytes_received),
      "bytes");
}

}  // namespace
}  // namespace powerprefill::bench

int main(int argc, char** argv) {
  using namespace powerprefill;
  if (argc < 5) {
    fmt::print(stderr, "usage: {} MODEL TOKENS PATTERN THREADS [ROUNDS [FOLDER]]\n", argv[0]);
    return 2;
  }
  Session session;
  ModelOptions options;
  options.folder = argv[1];
  options.threads = std::atoi(argv[4]);
  const bench::Layers layers(session, options, std::atoll(argv[2]), argv[3]);
  bench::run(session.mpi().world(), layers,
             fmt::format("{} {} tokens {}x{}", argv[3], argv[2], session.ranks(), argv[4]),
             argc > 5 ? std::atoi(argv[5]) : 3, argc > 6 ? argv[6] : "");
  return 0;
}
