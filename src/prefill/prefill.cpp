#include "powerprefill/prefill.hpp"

#include <memory>

#include "mpi/session.hpp"
#include "prefill/prefill_job.hpp"
#include "run/unagreed_failure.hpp"

namespace powerprefill {

namespace {

PrefillReport run_job(mpi::Session& session, const PrefillOptions& options, LoadedModel* loaded) {
  auto job = std::make_unique<PrefillJob>(session, options, loaded);
  return leak_on_unagreed_failure(session.world(), job, [&] { return job->run(); });
}

}  // namespace

PrefillReport prefill(Session& session, const PrefillOptions& options) {
  return run_job(session.mpi(), options, nullptr);
}

struct Prefiller::State {
  Session& session;
  LoadedModel model;
};

Prefiller::Prefiller(Session& session, const ModelOptions& model)
    : state_(new State{session, load_model(session.mpi(), model)}) {}
Prefiller::~Prefiller() = default;
Prefiller::Prefiller(Prefiller&&) noexcept = default;
Prefiller& Prefiller::operator=(Prefiller&&) noexcept = default;

PrefillReport Prefiller::run(const PrefillOptions& options) {
  mpi::Session& session = state_->session.mpi();
  return leak_on_unagreed_failure(session.world(), state_,
                                  [&] { return run_job(session, options, &state_->model); });
}

}  // namespace powerprefill
