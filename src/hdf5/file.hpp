// An HDF5 file as powerprefill uses it: described once, then left alone. Rows never pass through
// HDF5; it tells where they lie, and plain reads and writes move them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hdf5/check.hpp"
#include "hdf5/dataset_spec.hpp"
#include "hdf5/element.hpp"
#include "hdf5/first_format.hpp"
#include "hdf5/handle.hpp"
#include "hdf5/stored.hpp"

namespace powerprefill::hdf5 {

// Not thread-safe, and HDF5 as a whole is not: one thread of a process may use it at a time. All
// failures are Errors that name the file: storage from create(), cache from open().
class File {
 public:
  // A new file, or an existing one emptied, by this process alone; no MPI needed.
  //
  // Not through MPI-IO, although several ranks write rows into the file later: a metadata write
  // that fails on one rank of a collective creation leaves the others waiting for ever.
  static File create(const std::filesystem::path& path);
  // An existing file, read-only, by this process alone; no MPI needed, no HDF5 lock taken. Of any
  // version: what has no checksums is kept from HDF5, and read by FirstFormat.
  static File open(const std::filesystem::path& path);

  // Stores `element`'s type under `name`; datasets made later share it.
  void name_type(const std::string& name, Element element);
  // Contiguous, space assigned at once, never filled. Returns its offset in the file.
  std::int64_t make_dataset(const DatasetSpec& spec);
  // Only links inside the file are followed on the way to it.
  DatasetInfo dataset(const std::string& name) const;

  // Scalar attributes of the root group. Texts have a fixed length and are UTF-8.
  void set_attribute(const std::string& name, const std::string& text);
  void set_attribute(const std::string& name, std::int32_t value);
  void set_attribute(const std::string& name, std::int64_t value);
  void set_attribute(const std::string& name, std::uint64_t value);
  // The inverse; a missing attribute or another type is an Error.
  void get_attribute(const std::string& name, std::string& text) const;
  void get_attribute(const std::string& name, std::int32_t& value) const;
  void get_attribute(const std::string& name, std::int64_t& value) const;
  void get_attribute(const std::string& name, std::uint64_t& value) const;

  // Flushes and closes; nothing else may be called after it.
  void finish();

 private:
  File(Handle file, Context context);
  File(FirstFormat first, Context context);
  void set_number(const std::string& name, Element element, const void* value);
  void get_number(const std::string& name, Element element, void* value) const;
  void set_text(const Handle& object, const std::string& name, const std::string& text);
  // Empty: the root group has no such attribute.
  std::optional<StoredAttribute> find_attribute(const std::string& name) const;
  StoredAttribute require_attribute(const std::string& name) const;
  Handle open_object(const std::string& path) const;
  std::optional<std::string> step_to(const Handle& group, const std::string& name,
                                     const std::string& path) const;

  Context context_;
  Handle file_;
  std::optional<FirstFormat> first_;  // instead of file_
  std::map<Element, Handle> named_types_;
};

}  // namespace powerprefill::hdf5
