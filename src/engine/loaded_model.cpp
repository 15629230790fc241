#include "engine/loaded_model.hpp"

#include <fmt/format.h>

#include "base/files.hpp"
#include "base/hash.hpp"
#include "math/gemm.hpp"
#include "math/numerics.hpp"

namespace powerprefill {

namespace {

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
    return hex_of(hash_of(MappedFile(folder / name, ErrorCode::input).bytes()));
  }
  return "";
}

void agree_on_numerics(const mpi::Communicator& world, const std::string& own,
                       const std::string& of_root, bool allow_mixed) {
  world.agree([&] {
    if (own != of_root && !allow_mixed) {
      throw Error(ErrorCode::launch,
                  fmt::format("the ranks would not compute the same bits: '{}' here, '{}' on rank "
                              "0; use nodes of one kind, or --allow-mixed-numerics",
                              own, of_root));
    }
  });
}

}  // namespace

std::int64_t LoadedModel::share_of_memory(double part) const {
  return static_cast<std::int64_t>(part * static_cast<double>(mpi::available_memory())) /
         node_ranks;
}

LoadedModel load_model(const mpi::Communicator& world, const ModelOptions& options) {
  LoadedModel model;
  world.agree([&] {
    model.config = load_config(options.folder);
    model.compute = compute_from_name(options.compute);
    if (options.threads < 1) {
      throw Error(ErrorCode::usage, fmt::format("{} threads; at least 1", options.threads));
    }
    model.pool = std::make_unique<ThreadPool>(options.threads);
    if (world.is_root()) model.tokenizer_fingerprint = tokenizer_fingerprint(options.folder);
  });
  use_one_blas_thread();
  model.config_fingerprint = fingerprint_of(model.config);
  model.tokenizer_fingerprint = world.broadcast_string(model.tokenizer_fingerprint, 0);
  model.numerics = world.broadcast_string(numerics_id(model.compute), 0);
  agree_on_numerics(world, numerics_id(model.compute), model.numerics,
                    options.allow_mixed_numerics);
  const mpi::Communicator node = world.split_node();
  model.node_ranks = static_cast<int>(world.max(std::int64_t{node.size()}));
  model.nodes = static_cast<int>(world.sum(std::int64_t{node.is_root() ? 1 : 0}));
  std::int64_t number = world.prefix_sum(std::int64_t{node.is_root() ? 1 : 0});
  node.broadcast_value(number, 0);
  model.node = static_cast<int>(number);
  const mpi::Communicator numa = options.weights.per_numa ? world.split_numa() : node.dup();
  // Nodes load apart from each other: a failure on one of them is agreed by all here.
  world.agree([&] {
    try {
      model.weights = Weights::load(options.folder, model.config, model.compute, numa, *model.pool,
                                    {.store = store_of(options.weights.store),
                                     .scratch_folder = options.weights.scratch_folder});
    } catch (const Error& error) {
      throw Error(error.code(), error.what());
    }
  });
  return model;
}

}  // namespace powerprefill
