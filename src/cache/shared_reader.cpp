// One commit of a cache file on all ranks of a job.
#include <fcntl.h>
#include <fmt/format.h>

#include <chrono>
#include <span>
#include <thread>

#include "cache/format/attributes.hpp"
#include "cache/reader_state.hpp"

namespace powerprefill {

namespace {

// A file that is replaced at once, again and again, is none to decode from.
constexpr int kAttempts = 20;
constexpr std::chrono::milliseconds kPause{20};

}  // namespace

CacheReader CacheReader::open_shared(const mpi::Communicator& comm,
                                     const std::filesystem::path& path) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kPause);
    auto state = std::make_unique<State>();
    comm.agree([&] {
      if (comm.is_root()) state = std::move(open(path).state_);
    });
    comm.broadcast_value(state->record, 0);
    // Rows that count never change, but the file may have been replaced by a larger one since rank
    // 0 has opened it, and its rows lie elsewhere.
    bool is_same = true;
    comm.agree([&] {
      if (comm.is_root()) return;
      state->read_structure(path);
      is_same = header_hash(state->header) == state->record.header_hash;
      if (is_same) state->size_commit();
    });
    const std::int64_t all_same = comm.min(std::int64_t{is_same ? 1 : 0});
    if (all_same == 0) continue;
    // From rank 0, not from the file: a writer may use the record's slots again before this rank
    // has read them.
    for (const std::span<std::byte> part : state->commit_parts()) comm.broadcast(part, 0);
    ::posix_fadvise(state->file.fd(), 0, 0, POSIX_FADV_RANDOM);
    return CacheReader(std::move(state));
  }
  throw Error::agreed(
      ErrorCode::cache,
      fmt::format("{} is not the same file on all ranks; write to a folder that all "
                  "nodes share, and try again when its writer is done",
                  path.string()),
      0);
}

}  // namespace powerprefill
