// What a CacheReader holds; shared by the files that implement it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cache/format/checksum_table.hpp"
#include "cache/format/commit_record.hpp"
#include "cache/format/layout.hpp"
#include "cache/reader.hpp"
#include "files/files.hpp"

namespace powerprefill {

// Throws Error(cache): "PATH WHY".
[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why);

struct CacheReader::State {
  FileHandle file;
  std::int64_t file_bytes = 0;
  CacheHeader header;
  CacheLayout layout;
  CommitRecord record;
  std::optional<ChecksumTable> table;
  std::vector<std::int32_t> tokens;  // (n)
  std::vector<std::byte> decoded;    // (n)
  std::vector<float> logits;         // (V)
  std::vector<float> hidden;         // (E)

  // Header and layout, through HDF5, which is closed again on return.
  void read_structure(const std::filesystem::path& path);
  std::vector<std::byte> read_records() const;
  // Makes room for what `record` names.
  void size_commit();
  // Reads what `record` names, and returns its hash as it was found.
  std::uint64_t copy_commit();
  // The newest commit, whole; false when there is none.
  bool read_commit();

  // All that a commit has besides its record and the header, which say how long each part is.
  std::array<std::span<std::byte>, 6> commit_parts();

  // Bytes of one row of a column of the checksum table.
  std::int64_t row_bytes(std::int64_t column) const;
  // Reads the rows of one block, from its first on. Returns what is wrong with them, as in
  // "layer 3 value block 17: checksum differs", or an empty text.
  std::string read_checked(std::int64_t column, std::int64_t block,
                           std::span<std::byte> data) const;
  // The same; throws Error(cache) naming the damage.
  void read(std::int64_t column, std::int64_t block, std::span<std::byte> data) const;
};

}  // namespace powerprefill
