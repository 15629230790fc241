// How this process was launched, and what the ranks of a job agree on before anything else. The
// only place that reads the environment.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "powerprefill/session.hpp"

namespace powerprefill::cli {

// By the launcher's environment, before MPI starts: this process among those of the job; 0 of 1
// without a launcher.
int launched_rank();
int launched_ranks();
// The same among the processes of this node.
int launched_local_rank();

// Throws Error(launch), before MPI starts, when MPI would fail: a step of srun without the
// interface through which ranks find each other.
void check_environment();

// Seconds after which a start that does not end is reported: POWERPREFILL_START_PATIENCE, else 60.
double start_patience();

// The cores of a rank, as the job sees them.
struct Launch {
  int cores = 1;                        // that this rank may run on
  int node_ranks = 1;                   // of this rank's node
  bool bound = false;                   // the launcher has bound ranks to cores of their own
  int default_threads = 1;              // cores of a bound rank, else an equal share of the node's
  std::vector<std::string> notes = {};  // on rank 0: what the user should know about the launch
};

// A started job.
struct Job {
  Session& session;
  Launch launch;
};

// Collective, and the same calls on every rank, whatever its node or environment are like. Throws
// agreed Errors(launch) when the ranks run other programs or with other arguments, or are a step of
// many tasks of which none knows the others.
Launch agree_on_start(Session& session, const std::vector<std::string>& arguments);

// Collective. Throws an agreed Error(launch) when ranks are bound to fewer cores than they have
// threads.
void check_threads(const Job& job, int threads);

// Whether the launcher ends a job of which a rank exits with a code other than 0.
bool ends_job_with_a_rank();

// Ends the whole job at once with `code`; for a failure that this rank alone has seen.
[[noreturn]] void end_job(Session& session, int code);

// Folder for temporary files that are local to the node.
std::filesystem::path scratch_folder();

}  // namespace powerprefill::cli
