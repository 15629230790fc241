// Writing a cache file: create or open it, stream layers into it, commit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/trace.hpp"
#include "cache/format/header.hpp"
#include "mpi/communicator.hpp"

namespace powerprefill {

class CacheReader;

// Rows [0, tokens) of another cache file. `tokens` is a multiple of B, or all that the source has.
struct CachePrefix {
  const CacheReader* source = nullptr;
  std::int64_t tokens = 0;
};

// How rows were computed.
enum class RowOrigin : std::uint8_t { prefill = 0, decoded = 1 };

// One writer of one file, spread over all ranks of a communicator.
//
// Rows are written by a background thread of each rank with plain pwrite at the datasets' offsets;
// that thread calls neither MPI nor HDF5. Nothing that was written counts before commit() returns.
// A failed write or sync is remembered and thrown by the next wait_for() or commit().
class CacheWriter {
 public:
  // For one rank. Throws as create() does when no file could be made or replaced at `path` now.
  static void require_makeable(const std::filesystem::path& path);
  // Collective. Builds the file under a temporary name in the same folder (HDF5's structure by
  // rank 0, space reserved, synced), renames it to `path`, and holds the writer's lock on it. Where
  // `path` is a link, all this happens where it leads. A file that is replaced lends its mode and
  // owner.
  // Throws agreed Errors: usage when `path` exists and `force` is false; cache when another writer
  // holds it; storage when the folder is missing, unwritable or full; launch when the ranks do not
  // see the same folder. Rows of `prefix` are copied, checked, by all ranks, before the file gets
  // its name; they count with the first commit.
  static CacheWriter create(const mpi::Communicator& comm, const std::filesystem::path& path,
                            const CacheHeader& header, bool force, const CachePrefix& prefix = {});
  // Collective. Throws the Errors that create() would throw about `path` and the room of its disk,
  // and leaves nothing: for before the work that makes the contents. Fingerprints may be empty.
  static void require_room(const mpi::Communicator& comm, const std::filesystem::path& path,
                           const CacheHeader& header, bool force);
  // Not collective, for rank 0: throws the Error of open() when the file cannot be written, or
  // another writer holds it.
  static void require_writable(const std::filesystem::path& path);
  // Collective. Goes on with a file that has a commit, after locking it. When it has room for less
  // than `capacity` tokens, everything committed is copied to a file of 1.5 times the room (or
  // more), which then replaces it. Throws agreed Errors: cache when the file is damaged or another
  // writer holds it; storage when it cannot be written; launch when the ranks do not see the same
  // file.
  static CacheWriter open(const mpi::Communicator& comm, const std::filesystem::path& path,
                          std::int64_t capacity);

  CacheWriter(CacheWriter&&) noexcept;
  CacheWriter& operator=(CacheWriter&&) noexcept;
  ~CacheWriter();  // waits for the background thread; never throws

  const CacheHeader& header() const;
  // Tokens that count.
  std::int64_t committed() const;
  // What the file system of the output cannot do (reserve space, lock), as texts for the user; on
  // rank 0 only.
  const std::vector<std::string>& warnings() const;

  // Queues rows [first_token, first_token + count) of one layer, count = key.size() / row_bytes().
  // (count, G, D) each, in the file's dtype. first_token is a multiple of B, and so is count unless
  // these are the last tokens of the prompt. The memory must stay unchanged until the returned
  // ticket has been waited for. Also computes the checksums of the blocks.
  std::int64_t write_layer(std::int64_t layer, std::int64_t first_token,
                           std::span<const std::byte> key, std::span<const std::byte> value);
  // Queues rows of /hidden_all, (count, E); like write_layer. Only if header().saves_hidden.
  std::int64_t write_hidden(std::int64_t first_token, std::span<const float> rows);
  // Returns once everything up to `ticket` is written (not yet synced). Throws what the writes
  // threw.
  void wait_for(std::int64_t ticket);

  // Waits for the queue, and forgets what was written since the last commit: as if it had not been.
  // Throws what the writes threw.
  void discard();

  // Collective. Makes tokens [0, tokens.size()) count: waits for the queue, syncs the data of every
  // rank, writes tokens, logits (V), hidden (E) and checksums, syncs, then writes and syncs the
  // commit record. The three spans are read on rank 0 only, but the number of tokens must be the
  // same on every rank (`token_count`). Rows since the commit before are marked with `origin`; the
  // tokens before are those of that commit. Throws an agreed Error(storage); the file then still
  // holds the commit before.
  void commit(std::int64_t token_count, std::span<const std::int32_t> tokens,
              std::span<const float> logits, std::span<const float> hidden,
              RowOrigin origin = RowOrigin::prefill);

  // Collective. What is committed, seen through descriptors from after the commit. Throws an agreed
  // Error(storage) if the file was deleted or replaced.
  CacheReader read_back() const;

  // The background thread gets a row of its own; call before the first write.
  void set_trace(Trace& trace);
  // Bytes and seconds that the background thread of this rank has spent in pwrite and checksums.
  std::int64_t bytes_written() const;
  double write_seconds() const;

 private:
  struct State;
  explicit CacheWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace powerprefill
