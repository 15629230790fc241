// Whether a job is asked to stop, by a signal that any of its ranks has got.
#pragma once

#include <cstdint>
#include <functional>

#include "mpi/communicator.hpp"
#include "mpi/vote.hpp"

namespace powerprefill {

class StopPoll {
 public:
  // Collective. `world` outlives the poll. `should_stop` is asked on every rank, and may be empty;
  // `patience`: seconds that a chunk in flight may still take.
  static StopPoll make(const mpi::Communicator& world, std::function<bool()> should_stop,
                       double patience);

  // Before the first layer of a chunk.
  void begin_chunk();
  // Collective, after each layer. Asks all ranks without waiting: the answer is that to the layer
  // before. False, on every rank alike, when the chunk is to be dropped.
  bool goes_on(std::int64_t layers_done, std::int64_t layers);
  // Collective, between chunks.
  bool is_over() const;

 private:
  StopPoll(const mpi::Communicator& world, std::function<bool()> should_stop, double patience,
           mpi::Vote vote);
  // What a rank answers; the largest answer counts.
  enum Answer : std::int64_t { go_on = 0, finish_chunk = 1, drop_chunk = 2 };
  bool is_asked() const { return should_stop_ && should_stop_(); }

  const mpi::Communicator& world_;
  std::function<bool()> should_stop_;
  double patience_;
  double chunk_begin_ = 0;
  mpi::Vote vote_;
  Answer verdict_ = go_on;
};

}  // namespace powerprefill
