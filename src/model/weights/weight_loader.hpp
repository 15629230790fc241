// Reads the tensors of a layout into the shared memory: all ranks and threads of a node share the
// work.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/thread_pool.hpp"
#include "model/weights/weight_layout.hpp"
#include "mpi/communicator.hpp"

namespace powerprefill {

// Collective over `node`. Whether two tensors of `elements` hold the same values.
bool are_equal(const SourceTensor& a, const SourceTensor& b, const mpi::Communicator& node,
               ThreadPool& pool);

// What may hold values that are not finite: rows of an untied embedding may belong to tokens that
// never come. Everything else enters every result.
struct FiniteExcept {
  std::string_view tensor;        // its name, or empty
  std::string_view layer_prefix;  // see layer_of()
};

// Collective over `node`. Fills `memory`, which all ranks see, from the tensors of `layout`, and
// returns the fingerprint of the tensors, see Weights::fingerprint(). Throws an agreed Error(input)
// naming the tensor that is not finite, or the file that cannot be read.
std::string load_tensors(const WeightLayout& layout, const FiniteExcept& except, std::byte* memory,
                         const mpi::Communicator& node, ThreadPool& pool);

}  // namespace powerprefill
