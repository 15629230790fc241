// SIGUSR1 asks a job to stop in an orderly way: mpirun forwards it to all ranks, and sbatch
// --signal=USR1 sends it before the time limit.
#pragma once

namespace powerprefill::cli {

// From now on SIGUSR1 is remembered instead of ending the process.
void catch_stop_signal();

// Whether it has come.
bool stop_requested();

}  // namespace powerprefill::cli
