#include "cli/launch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <span>

#include "math/kernel_revisions.hpp"
#include "mpi/session.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

bool is_set(const char* variable) {
  return std::getenv(variable) != nullptr;
}

// The first of some variables that is set, as a number; `otherwise` when none is.
int number_from(std::initializer_list<const char*> variables, int otherwise) {
  for (const char* variable : variables) {
    if (const char* text = std::getenv(variable)) return std::atoi(text);
  }
  return otherwise;
}

// Open MPI's mpirun, PMIx (whose number of ranks only Slurm tells), the mpiexec of MPICH, and srun.
constexpr std::initializer_list<const char*> kRank = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK",
                                                      "PMI_RANK", "SLURM_PROCID"};
constexpr std::initializer_list<const char*> kRanks = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                                       "SLURM_STEP_NUM_TASKS"};

cpu_set_t own_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_SET(0, &set);
  return set;
}

// What a rank tells the others of its node.
struct CoresOfRank {
  cpu_set_t set;
  std::int64_t bound_by_launcher;
};

// Collective over `node`.
std::vector<CoresOfRank> gather_cores(const mpi::Communicator& node) {
  return node.all_gather_value(
      CoresOfRank{own_cores(), is_set("OMPI_MCA_orte_bound_at_launch") ? 1 : 0});
}

// Ranks of one node that run on different cores are bound, too, whoever has done it.
bool are_bound(const std::vector<CoresOfRank>& ranks) {
  return std::any_of(ranks.begin(), ranks.end(), [&](const CoresOfRank& rank) {
    return rank.bound_by_launcher != 0 || CPU_EQUAL(&rank.set, &ranks.front().set) == 0;
  });
}

// Cores of this node that the job has: what Slurm has allocated, else all.
int cores_of_node() {
  const auto online = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, std::min(number_from({"SLURM_CPUS_ON_NODE"}, online), online));
}

// What to say about a node whose ranks leave cores idle; empty when there is nothing.
std::string idle_cores(const std::vector<CoresOfRank>& ranks) {
  cpu_set_t used;
  CPU_ZERO(&used);
  for (const CoresOfRank& rank : ranks) CPU_OR(&used, &used, &rank.set);
  const int there = cores_of_node();
  const int count = CPU_COUNT(&used);
  if (count >= there) return "";
  if (!are_bound(ranks)) {
    return fmt::format("{} rank{} may run on {} of {} cores (taskset, a cpuset)", ranks.size(),
                       ranks.size() == 1 ? "" : "s", count, there);
  }
  const auto each = std::max<std::size_t>(1, static_cast<std::size_t>(there) / ranks.size());
  return fmt::format(
      "{} rank{} on {} of {} cores: the launcher has bound {}, and the others are idle; give "
      "mpirun "
      "--bind-to none, or --map-by ppr:{}:node:PE={} (srun: --cpus-per-task={} --cpu-bind=none)",
      ranks.size(), ranks.size() == 1 ? " runs" : "s run", count, there,
      ranks.size() == 1 ? "it" : "them", ranks.size(), each, each);
}

// One line for each text, with the hosts that it is about.
std::vector<std::string> join_notes(const std::vector<std::string>& notes,
                                    const mpi::Session& session) {
  constexpr std::size_t shown = 4;
  std::map<std::string, std::vector<std::string>> hosts;
  for (std::size_t rank = 0; rank < notes.size(); ++rank) {
    if (!notes[rank].empty()) {
      hosts[notes[rank]].push_back(session.host_of(static_cast<int>(rank)));
    }
  }
  std::vector<std::string> lines;
  for (auto& [text, names] : hosts) {
    const std::size_t others = names.size() - std::min(names.size(), shown);
    names.resize(names.size() - others);
    lines.push_back(fmt::format("host {}{}: {}", fmt::join(names, ", "),
                                others > 0 ? fmt::format(" and {} others", others) : "", text));
  }
  return lines;
}

}  // namespace

int launched_rank() {
  return number_from(kRank, 0);
}

int launched_ranks() {
  // Of a step, the number of tasks counts only where they are ranks.
  return is_set("OMPI_COMM_WORLD_RANK") || is_set("PMIX_RANK") || is_set("PMI_RANK")
             ? number_from(kRanks, 1)
             : 1;
}

int launched_local_rank() {
  return number_from({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, 0);
}

void check_environment() {
  // Open MPI takes a process of a Slurm step for a rank that srun has started, and finds the others
  // through PMIx alone; without it MPI_Init fails with 60 lines that do not say so.
  const bool is_open_mpi = mpi::library_version().starts_with("Open MPI");
  const bool finds_others = is_set("PMIX_RANK") || is_set("OMPI_COMM_WORLD_RANK");
  if (!is_open_mpi || !is_set("SLURM_STEP_ID") || finds_others) return;
  throw Error(ErrorCode::launch,
              fmt::format("srun has started {} task{} without PMIx, so that no MPI program can "
                          "start; use srun --mpi=pmix, or mpirun inside the allocation",
                          number_from({"SLURM_STEP_NUM_TASKS"}, 1),
                          number_from({"SLURM_STEP_NUM_TASKS"}, 1) == 1 ? "" : "s"));
}

double start_patience() {
  const char* text = std::getenv("POWERPREFILL_START_PATIENCE");
  const double seconds = text == nullptr ? 0 : std::atof(text);
  return seconds > 0 ? seconds : 60;
}

bool ends_job_with_a_rank() {
  return is_set("OMPI_COMM_WORLD_SIZE");  // mpirun does
}

void end_job(Session& session, int code) {
  // After MPI_Abort, the mpirun of Open MPI 4.1 itself hangs or crashes once in a while (1 in 60).
  if (ends_job_with_a_rank()) std::_Exit(code);
  session.abort(code);
}

Launch agree_on_start(Session& session, const std::vector<std::string>& arguments) {
  const mpi::Session& job = session.mpi();
  const mpi::Communicator& world = session.mpi().world();
  const mpi::Communicator& node = job.node_ranks();
  const int tasks = number_from({"SLURM_STEP_NUM_TASKS"}, 1);
  world.agree([&] {
    if (session.ranks() > 1 || tasks <= 1 || is_set("OMPI_COMM_WORLD_SIZE")) return;
    throw Error(ErrorCode::launch,
                fmt::format("srun started {} tasks, but each is a job of its own; use srun "
                            "--mpi=pmix, or mpirun inside the allocation",
                            tasks));
  });
  world.require_same(
      ErrorCode::launch,
      {{"program", "powerprefill " POWERPREFILL_VERSION ", kernels " + kernel_revisions(),
        "install the same build on all hosts"},
       {"command line", fmt::format("{}", fmt::join(arguments, " ")),
        "start all ranks with the same arguments"}});
  const std::vector<CoresOfRank> ranks = gather_cores(node);
  const CoresOfRank& mine = ranks[static_cast<std::size_t>(node.rank())];
  Launch launch = {
      .cores = CPU_COUNT(&mine.set), .node_ranks = node.size(), .bound = are_bound(ranks)};
  launch.default_threads =
      launch.bound ? launch.cores : std::max(1, launch.cores / launch.node_ranks);
  const std::string own_note = node.is_root() ? idle_cores(ranks) : "";
  const std::vector<std::string> notes = world.gather_strings(own_note, 0);
  launch.notes = join_notes(notes, job);
  return launch;
}

void check_threads(const Job& job, int threads) {
  const Launch& launch = job.launch;
  job.session.mpi().world().agree([&] {
    if (!launch.bound || threads <= launch.cores) return;
    throw Error(ErrorCode::launch,
                fmt::format("{} threads on a rank that is bound to {} core{}; launch with mpirun "
                            "--bind-to none, or --map-by slot:PE={}",
                            threads, launch.cores, launch.cores == 1 ? "" : "s", threads));
  });
}

std::filesystem::path scratch_folder() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/var/tmp";
}

}  // namespace powerprefill::cli
