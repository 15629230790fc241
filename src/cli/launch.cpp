#include "cli/launch.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "mpi/session.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

int number_from(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::atoi(text);
}

}  // namespace

bool is_launched() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

void end_job(Session& session, int code) {
  // mpirun ends a job of which a rank exits with a code other than 0. After MPI_Abort, the mpirun
  // of Open MPI 4.1 itself hangs or crashes once in a while (1 in 60).
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) std::_Exit(code);
  session.abort(code);
}

void check_launch(Session& session) {
  const int tasks = number_from("SLURM_STEP_NUM_TASKS");
  if (session.ranks() == 1 && tasks > 1) {
    throw Error(ErrorCode::launch,
                fmt::format("srun started {} tasks, but each is a job of its own; use srun "
                            "--mpi=pmix, or mpirun inside the allocation",
                            tasks));
  }
}

int cores_available() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

bool is_bound(Session& session) {
  if (std::getenv("OMPI_MCA_orte_bound_at_launch") != nullptr) return true;
  // Ranks of one node that run on different numbers of cores, or share out the node's, are bound.
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return false;
  const mpi::Communicator node = session.mpi().world().split_node();
  cpu_set_t of_root = set;
  node.broadcast_value(of_root, 0);
  return node.sum(std::int64_t{CPU_EQUAL(&set, &of_root) ? 0 : 1}) > 0;
}

int default_threads(Session& session) {
  if (is_bound(session)) return cores_available();
  const int ranks = session.mpi().world().split_node().size();
  return std::max(1, cores_available() / ranks);
}

void check_threads(Session& session, int threads) {
  const bool bound = is_bound(session);
  session.mpi().world().agree([&] {
    if (!bound || threads <= cores_available()) return;
    throw Error(
        ErrorCode::launch,
        fmt::format("{} threads on a rank that is bound to {} core{}; launch with mpirun "
                    "--bind-to none, or --map-by slot:PE={}",
                    threads, cores_available(), cores_available() == 1 ? "" : "s", threads));
  });
}

std::filesystem::path scratch_folder() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/var/tmp";
}

}  // namespace powerprefill::cli
