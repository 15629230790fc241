#include "powerprefill/prefill.hpp"

#include <memory>

#include "engine/prefill_job.hpp"
#include "mpi/session.hpp"

namespace powerprefill {

PrefillReport prefill(Session& session, const PrefillOptions& options) {
  auto job = std::make_unique<PrefillJob>(session.mpi().world(), options);
  try {
    return job->run();
  } catch (const Error& error) {
    // A failure of this rank alone ends the job, but messages may still be in flight: the buffers
    // that MPI reads and writes have to outlive it.
    if (!error.is_agreed() && session.ranks() > 1) static_cast<void>(job.release());
    throw;
  }
}

}  // namespace powerprefill
