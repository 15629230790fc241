// The structure of a file in HDF5's first format, read by hand.
//
// That format has no checksums, and damage in it crashes the library that reads it; h5py writes it
// unless told otherwise, under superblock 0 or, with some options, 2. What is needed of it is
// little: where a contiguous dataset lies, and attributes of the root group. Every offset and size
// is checked here, and the work is bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files/files.hpp"
#include "hdf5/check.hpp"
#include "hdf5/stored.hpp"

namespace powerprefill::hdf5 {

// Source: HDF5 File Format Specification 3.0. All failures are Errors(context.code).
class FirstFormat {
 public:
  FirstFormat(FileHandle file, Context context);

  // Empty: there is no such attribute of the root group.
  std::optional<StoredAttribute> attribute(const std::string& name) const;
  DatasetInfo dataset(const std::string& name) const;

 private:
  struct Message {
    unsigned type = 0;
    bool shared = false;  // it says where it is
    std::string data;
  };
  // A link: to an object at an address of this file, or to a path.
  struct Link {
    std::uint64_t address = 0;
    std::optional<std::string> path;
  };

  [[noreturn]] void refuse(const std::string& why) const;
  std::string read(std::uint64_t address, std::uint64_t bytes) const;
  std::vector<Message> messages_of(std::uint64_t address) const;
  void read_messages(std::string_view chunk, int version, bool has_order,
                     std::vector<Message>& messages) const;
  std::optional<Link> find_link(std::uint64_t group, const std::string& name) const;
  std::optional<Link> find_in_table(const Message& table, const std::string& name) const;
  std::optional<Link> find_in_tree(std::uint64_t node, int level, const std::string& names,
                                   const std::string& name) const;
  std::optional<Link> as_link(const Message& message, const std::string& name) const;
  std::uint64_t find_object(const std::string& path) const;
  std::optional<StoredAttribute> as_attribute(const Message& message,
                                              const std::string& name) const;
  StoredType type_of(std::string_view data, bool shared) const;
  std::vector<std::int64_t> extents_of(std::string_view data) const;

  FileHandle file_;
  Context context_;
  std::uint64_t bytes_ = 0;
  std::uint64_t root_ = 0;
  mutable std::uint64_t budget_;  // bytes that may still be read: loops in the structure end
};

}  // namespace powerprefill::hdf5
