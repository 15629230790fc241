#include "run/loaded_model.hpp"

#include <fmt/format.h>

#include "base/hash.hpp"
#include "base/memory.hpp"
#include "files/files.hpp"
#include "math/linear/gemm.hpp"
#include "math/numerics.hpp"

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
std::string tokenizer_fingerprint(const std::filesystem::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(folder / name, error)) continue;
    return hex_of(hash_of(read_text_file(folder / name, ErrorCode::input)));
  }
  return "";
}

// One type for the job: auto takes what all ranks have.
Compute agree_on_compute(const mpi::Communicator& world, const std::string& name) {
  const bool native = world.min(std::int64_t{bf16_isa() != Bf16Isa::none ? 1 : 0}) == 1;
  return compute_from_name(name != "auto" ? name : native ? "bf16" : "f32");
}

}  // namespace

std::int64_t LoadedModel::share_of_memory(double part) const {
  return static_cast<std::int64_t>(part * static_cast<double>(available_memory().bytes)) /
         node_ranks;
}

LoadedModel prepare_model(mpi::Session& session, const ModelOptions& options) {
  const mpi::Communicator& world = session.world();
  LoadedModel model;
  world.agree([&] {
    model.config = load_config(options.folder);
    compute_from_name(options.compute);  // refuses other names
    if (options.threads < 1) {
      throw Error(ErrorCode::usage, fmt::format("{} threads; at least 1", options.threads));
    }
    model.pool = std::make_unique<ThreadPool>(options.threads);
    model.tokenizer_fingerprint = tokenizer_fingerprint(options.folder);
  });
  use_one_blas_thread();
  model.config_fingerprint = fingerprint_of(model.config);
  world.require_same(ErrorCode::input,
                     {{"config.json", model.config_fingerprint, kCopyCheckpoint},
                      {"tokenizer", model.tokenizer_fingerprint, kCopyCheckpoint}});
  model.compute = agree_on_compute(world, options.compute);
  model.numerics = numerics_id(model.compute);
  if (!options.allow_mixed_numerics) {
    world.require_same(ErrorCode::launch,
                       {{"numerics, and would not compute the same bits", model.numerics,
                         "use nodes of one kind, or --allow-mixed-numerics"}});
  }
  model.numerics = world.broadcast_string(model.numerics, 0);
  model.node_ranks = static_cast<int>(world.max(std::int64_t{session.node_ranks().size()}));
  model.nodes = session.nodes();
  model.node = session.node();
  return model;
}

void load_weights(mpi::Session& session, const ModelOptions& options, LoadedModel& model) {
  const mpi::Communicator& world = session.world();
  const bool per_numa = options.weights.per_numa;
  const mpi::Communicator numa = per_numa ? world.split_numa() : mpi::Communicator();
  const mpi::Communicator& part = per_numa ? numa : session.node_ranks();
  // Nodes load apart from each other: a failure on one of them is agreed by all here.
  world.agree([&] {
    try {
      model.weights = Weights::load(options.folder, model.config, model.compute, part, *model.pool,
                                    {.store = store_of(options.weights.store),
                                     .scratch_folder = options.weights.scratch_folder});
    } catch (const Error& error) {
      throw Error(error.code(), error.what());
    }
  });
  world.require_same(ErrorCode::input, {{"weights", model.weights.fingerprint(), kCopyCheckpoint}});
}

LoadedModel load_model(mpi::Session& session, const ModelOptions& options) {
  LoadedModel model = prepare_model(session, options);
  load_weights(session, options, model);
  return model;
}

}  // namespace powerprefill
