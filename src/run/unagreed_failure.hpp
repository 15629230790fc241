// Buffers that outlive a failure which one rank alone has seen.
#pragma once

#include <memory>

#include "mpi/communicator.hpp"

namespace powerprefill {

// Runs `body`, which works with what `owner` holds. A failure of this rank alone ends the job, but
// messages may still be in flight, and rows on their way to a file: the buffers have to outlive it,
// so `owner` lets go of them. Only an agreed Error leaves nothing in flight; whatever else is
// thrown, std::bad_alloc above all, may have come between the start and the end of an exchange.
template <typename Owner, typename Body>
auto leak_on_unagreed_failure(const mpi::Communicator& world, std::unique_ptr<Owner>& owner,
                              const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (!error.is_agreed() && world.size() > 1) static_cast<void>(owner.release());
    throw;
  } catch (...) {
    if (world.size() > 1) static_cast<void>(owner.release());
    throw;
  }
}

}  // namespace powerprefill
