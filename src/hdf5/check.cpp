#include "hdf5/check.hpp"

#include <fmt/format.h>
#include <hdf5.h>

#include <algorithm>
#include <cctype>

namespace powerprefill::hdf5 {

namespace {

extern "C" herr_t append_description(unsigned, const H5E_error2_t* entry, void* text) {
  auto& line = *static_cast<std::string*>(text);
  if (entry->desc == nullptr || *entry->desc == '\0') return 0;
  if (!line.empty()) line += ": ";
  line += entry->desc;
  return 0;
}

std::string error_stack() {
  std::string line;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, append_description, &line);
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
  return line.empty() ? "no reason given by HDF5" : line;
}

}  // namespace

void start_quietly() {
  if (H5open() < 0) throw Error(ErrorCode::internal, "the HDF5 library does not start");
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

std::string library_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) return "unknown";
  return fmt::format("{}.{}.{}", major, minor, release);
}

std::int64_t check(std::int64_t status, const std::string& what, const Context& context) {
  if (status < 0) {
    throw Error(context.code,
                fmt::format("cannot {} in {}: {}", what, context.path.string(), error_stack()));
  }
  return status;
}

Handle check_handle(std::int64_t id, const std::string& what, const Context& context) {
  return Handle(check(id, what, context));
}

}  // namespace powerprefill::hdf5
