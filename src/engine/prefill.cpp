#include "powerprefill/prefill.hpp"

#include <memory>

#include "engine/lonely_failure.hpp"
#include "engine/prefill_job.hpp"
#include "mpi/session.hpp"

namespace powerprefill {

namespace {

PrefillReport run_job(mpi::Communicator& world, const PrefillOptions& options,
                      LoadedModel* loaded) {
  auto job = std::make_unique<PrefillJob>(world, options, loaded);
  return keep_if_alone(world, job, [&] { return job->run(); });
}

}  // namespace

PrefillReport prefill(Session& session, const PrefillOptions& options) {
  return run_job(session.mpi().world(), options, nullptr);
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
  mpi::Communicator& world = state_->session.mpi().world();
  return keep_if_alone(world, state_, [&] { return run_job(world, options, &state_->model); });
}

}  // namespace powerprefill
