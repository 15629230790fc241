#include "layers/row_parallel.hpp"

#include <vector>

#include "base/checked.hpp"

namespace powerprefill {

void gather_parts(const mpi::Communicator& comm, std::int64_t count, std::int64_t width,
                  std::span<float> values) {
  if (comm.size() == 1) return;
  std::vector<int> pieces;
  for (int r = 0; r < comm.size(); ++r) {
    const Part part = part_of(count, r, comm.size());
    pieces.push_back(checked_cast<int>((part.end - part.begin) * width *
                                       static_cast<std::int64_t>(sizeof(float))));
  }
  const Part mine = part_of(count, comm.rank(), comm.size());
  const std::vector<float> own(values.begin() + mine.begin * width,
                               values.begin() + mine.end * width);
  comm.all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(values), pieces);
}

void apply_linear_row_split(const mpi::Communicator& comm, ThreadPool& pool, const Linear& linear,
                            const float* x, std::span<float> y) {
  const Part mine = part_of(linear.outputs, comm.rank(), comm.size());
  apply_linear_row(pool, linear, x, mine.begin, mine.end, y.data());
  gather_parts(comm, linear.outputs, 1, y);
}

}  // namespace powerprefill
