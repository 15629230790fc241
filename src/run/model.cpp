#include "powerprefill/model.hpp"

#include <fmt/format.h>

#include "base/hash.hpp"
#include "base/memory.hpp"
#include "base/zones.hpp"
#include "files/files.hpp"
#include "math/linear/gemm.hpp"
#include "math/numerics.hpp"
#include "model/families/load_config.hpp"
#include "run/model_state.hpp"

namespace powerprefill {

namespace {

constexpr const char* kCopyCheckpoint =
    "copy the same checkpoint to all hosts, or name one that they share";

mpi::SharedStore store_of(WeightsPlacement::Store store) {
  switch (store) {
    case WeightsPlacement::Store::memory:
      return mpi::SharedStore::memory;
    case WeightsPlacement::Store::file:
      return mpi::SharedStore::file;
    case WeightsPlacement::Store::automatic:
      break;
  }
  return mpi::SharedStore::automatic;
}

// Other token ids for the same text would make a cache useless without anyone noticing.
std::string fingerprint_of_tokenizer(const std::filesystem::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(folder / name, error)) continue;
    return hex_of(hash_of(read_text_file(folder / name, ErrorCode::input)));
  }
  return "";
}

// One type for the job: automatic takes what all ranks have.
Compute agree_on_compute(const mpi::Communicator& world, ComputeType type) {
  const bool native = world.min(std::int64_t{bf16_isa() != Bf16Isa::none ? 1 : 0}) == 1;
  if (type == ComputeType::automatic) type = native ? ComputeType::bf16 : ComputeType::f32;
  return compute_for(type);
}

}  // namespace

std::int64_t Model::State::share_of_memory(double part) const {
  return static_cast<std::int64_t>(part * static_cast<double>(available_memory().bytes)) /
         node_ranks;
}

void Model::State::prepare() {
  world().agree([&] {
    config = load_config(options.folder);
    summary = summary_of(config);
    if (options.threads < 1) {
      throw Error(ErrorCode::usage, fmt::format("{} threads; at least 1", options.threads));
    }
    pool = std::make_unique<ThreadPool>(options.threads);
    tokenizer_fingerprint = fingerprint_of_tokenizer(options.folder);
  });
  use_one_blas_thread();
  config_fingerprint = fingerprint_of(config);
  world().require_same(ErrorCode::input, {{"config.json", config_fingerprint, kCopyCheckpoint},
                                          {"tokenizer", tokenizer_fingerprint, kCopyCheckpoint}});
  compute = agree_on_compute(world(), options.compute);
  numerics = numerics_id(compute);
  if (!options.allow_mixed_numerics) {
    world().require_same(ErrorCode::launch,
                         {{"numerics, and would not compute the same bits", numerics,
                           "use nodes of one kind, or --allow-mixed-numerics"}});
  }
  numerics = world().broadcast_string(numerics, 0);
  node_ranks = static_cast<int>(world().max(std::int64_t{session.node_ranks().size()}));
}

void Model::State::load() {
  if (has_weights) return;
  const double start = seconds_now();
  const bool per_numa = options.weights.per_numa;
  const mpi::Communicator numa = per_numa ? world().split_numa() : mpi::Communicator();
  const mpi::Communicator& part = per_numa ? numa : session.node_ranks();
  // Nodes load apart from each other: a failure on one of them is agreed by all here.
  world().agree([&] {
    try {
      weights = Weights::load(options.folder, config, compute, part, *pool,
                              {.store = store_of(options.weights.store),
                               .scratch_folder = options.weights.scratch_folder});
    } catch (const Error& error) {
      throw Error(error.code(), error.what());
    }
  });
  world().require_same(ErrorCode::input, {{"weights", weights.fingerprint(), kCopyCheckpoint}});
  has_weights = true;
  load_seconds = seconds_now() - start;
}

Model::Model(Session& session, const ModelOptions& options)
    : state_(new State{.session = session.mpi(), .options = options}) {
  state_->prepare();
}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

void Model::load() {
  state_->load();
}
const ModelSummary& Model::summary() const {
  return state_->summary;
}
ComputeType Model::compute() const {
  return type_of(state_->compute);
}
const std::vector<std::int32_t>& Model::end_tokens() const {
  return state_->config.end_tokens;
}
double Model::load_seconds() const {
  return state_->load_seconds;
}

}  // namespace powerprefill
