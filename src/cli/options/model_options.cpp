#include "cli/options/model_options.hpp"

#include "cli/launch.hpp"
#include "cli/options/choice_option.hpp"
#include "cli/options/number_option.hpp"

namespace powerprefill::cli {

void add_compute_option(CLI::App& app, ComputeType& compute, const std::string& description) {
  add_choice(
      app, "--compute", compute,
      {{"auto", ComputeType::automatic}, {"f32", ComputeType::f32}, {"bf16", ComputeType::bf16}},
      description);
}

void ModelArguments::add_to(CLI::App& app) {
  app.add_option("--model", folder,
                 "Checkpoint folder: config.json and model.safetensors (or its index and shards)")
      ->required();
  app.add_option("--threads", threads, "Compute threads per rank (default: the rank's cores)")
      ->transform(whole_number(1, kMostThreads));
  add_compute_option(
      app, compute,
      "Operands of the linear layers and of attention; auto: bf16 where the CPU has it (decode: "
      "that of the cache)");
  app.add_option("--weights-per", weights_per, "One copy of the weights per node or NUMA domain")
      ->check(CLI::IsMember({"node", "numa"}))
      ->capture_default_str();
  app.add_option("--weights-store", weights_store,
                 "Keep the weights in memory, or in a mapped file of this folder; auto: in memory "
                 "when there is room")
      ->capture_default_str();
  app.add_flag("--allow-mixed-numerics", allow_mixed_numerics,
               "Accept ranks whose CPUs would not compute the same bits");
}

ModelOptions ModelArguments::resolve(const Job& job) const {
  ModelOptions options;
  options.folder = folder;
  options.compute = compute;
  options.threads = threads > 0 ? threads : job.launch.default_threads;
  options.allow_mixed_numerics = allow_mixed_numerics;
  options.weights.per_numa = weights_per == "numa";
  options.weights.scratch_folder = scratch_folder();
  if (weights_store == "memory") {
    options.weights.store = WeightsPlacement::Store::memory;
  } else if (weights_store != "auto") {
    options.weights.store = WeightsPlacement::Store::file;
    options.weights.scratch_folder = weights_store;
  }
  check_threads(job, options.threads);
  return options;
}

}  // namespace powerprefill::cli
