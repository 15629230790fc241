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

struct Prefiller::State {
  Session& session;
  LoadedModel model;
};

Prefiller::Prefiller(Session& session, const ModelOptions& model)
    : state_(new State{session, load_model(session.mpi().world(), model)}) {}
Prefiller::~Prefiller() = default;
Prefiller::Prefiller(Prefiller&&) noexcept = default;
Prefiller& Prefiller::operator=(Prefiller&&) noexcept = default;

PrefillReport Prefiller::run(const PrefillOptions& options) {
  Session& session = state_->session;
  auto job = std::make_unique<PrefillJob>(session.mpi().world(), options, &state_->model);
  try {
    return job->run();
  } catch (const Error& error) {
    if (!error.is_agreed() && session.ranks() > 1) {
      static_cast<void>(job.release());
      static_cast<void>(state_.release());
    }
    throw;
  }
}

}  // namespace powerprefill
