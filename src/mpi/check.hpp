// The one check of every MPI call.
#pragma once

#include <mpi.h>

namespace powerprefill::mpi {

// Throws Error(internal) with MPI's own text when `status` is not MPI_SUCCESS. `call` names it.
void check(int status, const char* call);

}  // namespace powerprefill::mpi
