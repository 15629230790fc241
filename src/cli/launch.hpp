// How this process was launched. The only place that reads the environment.
#pragma once

#include <filesystem>

#include "powerprefill/session.hpp"

namespace powerprefill::cli {

// Whether an MPI launcher started this process as one of its ranks.
bool is_launched();

// Ends the whole job at once with `code`; for a failure that this rank alone has seen.
[[noreturn]] void end_job(Session& session, int code);

// Throws Error(launch) when the launch cannot work: a step of many tasks of which none knows the others.
void check_launch(Session& session);

// Cores that this process may run on.
int cores_available();

// Whether the launcher has bound ranks to cores of their own.
bool is_bound(Session& session);

// Threads per rank: the cores of a bound rank, else an equal share of the node's.
int default_threads(Session& session);

// Collective. Throws an agreed Error(launch) when ranks are bound to fewer cores than they have
// threads.
void check_threads(Session& session, int threads);

// Folder for temporary files that are local to the node.
std::filesystem::path scratch_folder();

}  // namespace powerprefill::cli
