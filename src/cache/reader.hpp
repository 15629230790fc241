// Reading a cache file: lazy, checked, by any number of processes, also while a writer appends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cache/format/header.hpp"
#include "cache/format/layout.hpp"
#include "files/files.hpp"
#include "mpi/communicator.hpp"
#include "powerprefill/cache.hpp"

namespace powerprefill {

enum class KvPart { key, value };

// A committed state of a cache file. Opening costs O(blocks), whatever the size of the data.
class CacheReader {
 public:
  // Not collective; no MPI needed. Throws Error(cache) naming what is wrong: not such a file, a
  // newer major version, truncated, datasets that do not fit the header, no commit. Error(input)
  // when the path does not exist.
  static CacheReader open(const std::filesystem::path& path);
  // Collective over `comm`: rank 0 finds the newest commit, and all ranks have this one, also
  // beside a writer that goes on or replaces the file. Throws agreed Errors as above.
  static CacheReader open_shared(const mpi::Communicator& comm, const std::filesystem::path& path);
  // Empty for a file whose prefill has not committed anything yet. Throws like open() else.
  static std::optional<CacheReader> open_if_committed(const std::filesystem::path& path);

  CacheReader(CacheReader&&) noexcept;
  CacheReader& operator=(CacheReader&&) noexcept;
  ~CacheReader();

  const CacheHeader& header() const;
  // n, the committed tokens.
  std::int64_t tokens() const;
  // Number of the commit that is read, 1 for the first.
  std::uint64_t sequence() const;
  std::int64_t file_bytes() const;

  const std::vector<std::int32_t>& token_ids() const;  // (n)
  const std::vector<float>& logits() const;            // (V), after the last token
  const std::vector<float>& hidden() const;            // (E), of the last token
  const std::vector<std::byte>& decoded() const;       // (n), 1: the row was made by decoding
  // [begin, end) of every run of decoded rows, ascending.
  std::vector<std::pair<std::int64_t, std::int64_t>> decoded_ranges() const;

  // Rows of `block` that are committed: B, or fewer in the last block.
  std::int64_t rows_of(std::int64_t block) const;
  // Reads the committed rows of one block, (rows, G, D) in the file's dtype, and checks them
  // against their checksum. data.size() == rows_of(block) * row_bytes(). Throws Error(cache) naming
  // layer, part and block. Thread-safe.
  void read_block(std::int64_t layer, KvPart part, std::int64_t block,
                  std::span<std::byte> data) const;
  // Likewise the committed rows of /hidden_all, (rows, E). Only if header().saves_hidden.
  void read_hidden(std::int64_t block, std::span<float> data) const;

  const CacheLayout& layout() const;

  // Columns of the checksum table, see ChecksumRun: key and value of each layer, then hidden.
  std::int64_t columns() const;
  std::uint64_t checksum(std::int64_t column, std::int64_t block) const;
  // Copies rows [0, tokens) of a column into `to` at `offset`, sharing the disk's blocks where the
  // file system can; every block is checked. `tokens` is a multiple of B, or all of tokens().
  void copy_rows(std::int64_t column, std::int64_t tokens, const FileHandle& to,
                 std::int64_t offset) const;

  // Rereads and rehashes every committed block.
  using Verification = Cache::Verification;
  // No MPI needed.
  Verification verify() const;
  // Collective over `comm`, whose ranks share the blocks. Every rank gets what all have found.
  Verification verify(const mpi::Communicator& comm) const;

 private:
  struct State;
  // Every `parts`-th block from `part` on; damage by its place in the file.
  struct PartialVerification {
    std::int64_t bytes = 0;
    std::map<std::int64_t, std::string> damage;
  };
  PartialVerification verify_part(std::int64_t part, std::int64_t parts) const;
  explicit CacheReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace powerprefill
