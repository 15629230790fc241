#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/aligned_buffer.hpp"
#include "base/human_bytes.hpp"
#include "base/memory.hpp"
#include "base/zones.hpp"
#include "cli/commands.hpp"
#include "cli/launch.hpp"
#include "hdf5/check.hpp"
#include "math/linear/gemm.hpp"
#include "math/linear/linear.hpp"
#include "math/rows/row_ops.hpp"
#include "mpi/session.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

// Rate of one thread at the shape of a linear layer's tile, best of a few.
double gemm_gflops() {
  constexpr std::int64_t k = 1024;
  const AlignedBuffer<float> a(kTileTokens * k);
  const AlignedBuffer<float> b(kPanelOutputs * k);
  AlignedBuffer<float> c(kTileTokens * kPanelOutputs);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds_now();
    gemm_nt(kTileTokens, kPanelOutputs, k, {a.data(), k}, {b.data(), k}, 0.0F,
            {c.data(), kPanelOutputs});
    best = std::max(best, 2e-9 * double{kTileTokens} * double{kPanelOutputs} * double{k} /
                              (seconds_now() - start));
  }
  return best;
}

// Median seconds of the smallest collective.
double collective_seconds(const mpi::Communicator& world) {
  std::vector<double> samples;
  for (int i = 0; i < 21; ++i) {
    const double start = seconds_now();
    world.sum(1);
    samples.push_back(world.max(seconds_now() - start));
  }
  std::nth_element(samples.begin(), samples.begin() + 10, samples.end());
  return samples[10];
}

void run(bool as_json, const Job& job) {
  const mpi::Session& session = job.session.mpi();
  const mpi::Communicator& world = job.session.mpi().world();
  const Launch& launch = job.launch;
  use_one_blas_thread();
  world.barrier();
  const double own_rate = gemm_gflops();
  const double slowest = -world.max(-own_rate);
  const double latency = collective_seconds(world);

  std::vector<std::string> advice = launch.notes;
  const std::string core = blas_core();
  const std::string simd = simd_target();
  const bool wide = simd.starts_with("AVX3");
  if (wide && (core == "Haswell" || core == "Zen" || core == "Prescott" || core == "Nehalem")) {
    advice.push_back(
        fmt::format("this CPU has AVX-512, but the BLAS library chose its {} kernels: "
                    "try OPENBLAS_CORETYPE=SkylakeX and compare the rates",
                    core));
  }
  if (latency > 1e-3) {
    advice.push_back(
        "collectives are slow: more ranks than cores? launch with mpirun "
        "--oversubscribe, or set OMPI_MCA_mpi_yield_when_idle=1");
  }
  if (!launch.bound && launch.node_ranks > launch.cores) {
    advice.push_back(fmt::format("{} ranks share {} cores of a node; speed will suffer",
                                 launch.node_ranks, launch.cores));
  }
  if (!world.is_root()) return;
  const AvailableMemory memory = available_memory();
  const nlohmann::ordered_json json = {{"version", POWERPREFILL_VERSION},
                                       {"mpi", mpi::library_version()},
                                       {"hdf5", hdf5::library_version()},
                                       {"blas", blas_version()},
                                       {"blas_kernels", core},
                                       {"instruction_set", simd},
                                       {"ranks", world.size()},
                                       {"nodes", session.nodes()},
                                       {"ranks_on_this_node", launch.node_ranks},
                                       {"cores_of_this_rank", launch.cores},
                                       {"bound_to_cores", launch.bound},
                                       {"default_threads", launch.default_threads},
                                       {"sgemm_gflops_per_thread", slowest},
                                       {"collective_us", latency * 1e6},
                                       {"memory_available_bytes", memory.bytes},
                                       {"memory_bounded_by", memory.bound},
                                       {"advice", advice}};
  if (as_json) {
    fmt::print("{}\n", json.dump(2));
    return;
  }
  for (const auto& [key, value] : json.items()) {
    if (key == "advice") continue;
    fmt::print("{:<26} {}\n", key,
               value.is_string()                 ? value.get<std::string>()
               : value.is_number_float()         ? fmt::format("{:.1f}", value.get<double>())
               : key == "memory_available_bytes" ? human_bytes(value.get<double>())
                                                 : value.dump());
  }
  for (const std::string& line : advice) fmt::print("advice: {}\n", line);
  if (advice.empty()) fmt::print("everything looks right\n");
}

}  // namespace

Command add_doctor(CLI::App& app) {
  auto as_json = std::make_shared<bool>(false);
  CLI::App* sub =
      app.add_subcommand("doctor", "Check the launch, the libraries and the speed of this machine");
  sub->add_flag("--json", *as_json, "As JSON");
  return {sub, Runs::as_a_job, [as_json](const Job* job) { run(*as_json, *job); }};
}

}  // namespace powerprefill::cli
