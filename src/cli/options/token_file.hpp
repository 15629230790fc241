// Prompts as token ids in a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "mpi/communicator.hpp"

namespace powerprefill::cli {

// Decimal ids separated by white space, a NumPy .npy file of int32 or int64 (one dimension), or an
// HDF5 file with a dataset `tokens` of one of these types; told apart by their first bytes. Throws
// Error(input) naming the file and what is wrong with it.
std::vector<std::int32_t> read_token_file(const std::filesystem::path& path);

// Collective: rank 0 makes the ids, the others get a copy, so that no file need be visible on every
// node. Throws agreed Errors.
std::vector<std::int32_t> share_ids(const mpi::Communicator& world,
                                    const std::function<std::vector<std::int32_t>()>& make);

}  // namespace powerprefill::cli
