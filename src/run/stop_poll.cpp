#include "run/stop_poll.hpp"

#include <algorithm>
#include <utility>

#include "base/zones.hpp"

namespace powerprefill {

StopPoll StopPoll::make(const mpi::Communicator& world, std::function<bool()> should_stop,
                        double patience) {
  return {world, std::move(should_stop), patience, mpi::Vote::make(world)};
}

StopPoll::StopPoll(const mpi::Communicator& world, std::function<bool()> should_stop,
                   double patience, mpi::Vote vote)
    : world_(world),
      should_stop_(std::move(should_stop)),
      patience_(patience),
      vote_(std::move(vote)) {}

void StopPoll::begin_chunk() {
  chunk_begin_ = seconds_now();
}

bool StopPoll::goes_on(std::int64_t layers_done, std::int64_t layers) {
  if (vote_.is_open()) verdict_ = std::max(verdict_, static_cast<Answer>(vote_.result()));
  if (verdict_ == drop_chunk) return false;
  if (layers_done == layers) return true;
  Answer mine = go_on;
  if (verdict_ == go_on && is_asked()) {
    const double seconds = seconds_now() - chunk_begin_;
    const double left =
        seconds / static_cast<double>(layers_done) * static_cast<double>(layers - layers_done);
    mine = left <= patience_ ? finish_chunk : drop_chunk;
  }
  vote_.start(mine);
  return true;
}

bool StopPoll::is_over() const {
  const bool mine = verdict_ != go_on || is_asked();
  const std::int64_t any = world_.max(std::int64_t{mine ? 1 : 0});
  return any == 1;
}

}  // namespace powerprefill
