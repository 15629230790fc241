// What a CacheWriter holds; shared by the files that implement it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/format/checksum_table.hpp"
#include "cache/format/layout.hpp"
#include "cache/pending_file.hpp"
#include "cache/reader.hpp"
#include "cache/row_writer.hpp"
#include "cache/writer.hpp"
#include "files/files.hpp"

namespace powerprefill {

struct CacheWriter::State {
  mpi::Communicator comm;
  CacheHeader header;
  CacheLayout layout;
  FileHandle file;  // on rank 0 it holds the writer's lock
  std::vector<std::string> warnings;
  std::uint64_t sequence = 0;          // of the last commit
  std::int64_t committed = 0;          // tokens
  std::vector<std::byte> decoded;      // rank 0: (committed)
  std::optional<ChecksumTable> table;  // rank 0: of the whole file
  std::optional<Error> failure;        // of an earlier commit, on every rank
  std::optional<RowWriter> rows;       // last: its thread uses `file`

  explicit State(const mpi::Communicator& job) : comm(job.dup()) {}

  // Collective. Makes the file of `header` up to the rename; `pending` is empty on ranks other than
  // 0.
  void build(const std::filesystem::path& path, std::optional<PendingFile>& pending);
  void copy_prefix(const CachePrefix& prefix);
  void enter_checksums(const CacheReader& source, std::int64_t tokens);
  void publish(std::optional<PendingFile>& pending);

  void require_named() const;
  void write_values(const CommittedValues& values, int slot);
  void write_record(const CommittedValues& values, int slot);
  void commit(std::int64_t token_count, CommittedValues values, RowOrigin origin);
};

}  // namespace powerprefill
