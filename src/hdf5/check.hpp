// The one check of every HDF5 call.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "hdf5/handle.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::hdf5 {

// What an HDF5 failure is reported as.
struct Context {
  ErrorCode code = ErrorCode::internal;
  std::filesystem::path path;
};

// Starts the library if need be and stops it from printing its errors to stderr.
void start_quietly();

// "1.10.8"
std::string library_version();

// Returns `status`, or throws Error(context.code) when it is negative: "cannot WHAT in PATH: ..."
// with HDF5's own error stack in one line, outermost call first.
std::int64_t check(std::int64_t status, const std::string& what, const Context& context);

// The same for a new identifier, owned from here on.
Handle check_handle(std::int64_t id, const std::string& what, const Context& context);

}  // namespace powerprefill::hdf5
