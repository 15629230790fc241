// What a CacheWriter holds; shared by the files that implement it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
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

  // `own`: a duplicate, so that the writer's messages meet no others.
  explicit State(mpi::Communicator own) : comm(std::move(own)) {}

  // Collective, all of them, with `pending` on rank 0 alone. build() makes the file of `header` up
  // to the rename, which is publish().
  void build(const std::filesystem::path& path, std::optional<PendingFile>& pending);
  void copy_prefix(const CachePrefix& prefix);
  void publish(std::optional<PendingFile>& pending);
  void grow(const std::filesystem::path& path, std::int64_t capacity, const CacheReader& from,
            std::optional<PendingFile>& pending);
  void commit(std::int64_t token_count, CommittedValues values, RowOrigin origin);

  // Parts of the above, not collective.
  void enter_checksums(const CacheReader& source, std::int64_t tokens);
  void require_named() const;
  void write_values(const CommittedValues& values, int slot);
  void write_record(const CommittedValues& values, int slot);
};

}  // namespace powerprefill
