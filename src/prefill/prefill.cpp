#include "powerprefill/prefill.hpp"

#include <memory>

#include "prefill/prefill_job.hpp"
#include "run/unagreed_failure.hpp"

namespace powerprefill {

PrefillReport prefill(Model& model, const PrefillOptions& options) {
  auto job = std::make_unique<PrefillJob>(model.state(), options);
  return leak_on_unagreed_failure(model.state().world(), job, [&] { return job->run(); });
}

}  // namespace powerprefill
