// One commit of a cache file on all ranks of a job.
#include <fcntl.h>
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <span>
#include <thread>

#include "cache/reader_state.hpp"

namespace powerprefill {

namespace {

// A file that is replaced at once, again and again, is none to decode from.
constexpr int kAttempts = 20;
constexpr std::chrono::milliseconds kPause{20};

template <typename T>
void append(std::string& bytes, std::span<const T> values) {
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

// Takes values from the front of a text of bytes.
class Bytes {
 public:
  explicit Bytes(const std::string& bytes) : rest_(bytes) {}

  template <typename T>
  void take(std::span<T> values) {
    if (rest_.size() < values.size_bytes()) {
      throw Error(ErrorCode::internal, "the commit from rank 0 is cut short");
    }
    if (!values.empty()) std::memcpy(values.data(), rest_.data(), values.size_bytes());
    rest_.remove_prefix(values.size_bytes());
  }

 private:
  std::string_view rest_;
};

}  // namespace

std::string CacheReader::State::commit_bytes() const {
  std::string bytes;
  append(bytes, std::span<const std::byte>(encode(record)));
  append(bytes, std::span(tokens));
  append(bytes, std::span(decoded));
  append(bytes, std::span(logits));
  append(bytes, std::span(hidden));
  append(bytes, table->sums());
  append(bytes, table->hidden_sums());
  return bytes;
}

void CacheReader::State::take_commit(const std::string& bytes) {
  Bytes rest(bytes);
  std::array<std::byte, kRecordBytes> own{};
  rest.take(std::span<std::byte>(own));
  const std::optional<CommitRecord> found = powerprefill::decode(own, header.generation);
  if (!found) throw Error(ErrorCode::internal, "the commit from rank 0 is of another file");
  record = *found;
  size_commit();
  rest.take(std::span(tokens));
  rest.take(std::span(decoded));
  rest.take(std::span(logits));
  rest.take(std::span(hidden));
  rest.take(table->sums());
  rest.take(table->hidden_sums());
}

CacheReader CacheReader::open_shared(const mpi::Communicator& comm,
                                     const std::filesystem::path& path) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kPause);
    auto state = std::make_unique<State>();
    std::string commit;
    comm.agree([&] {
      if (!comm.is_root()) return;
      state = std::move(open(path).state_);
      commit = state->commit_bytes();
    });
    std::uint64_t generation = state->header.generation;
    comm.broadcast_value(generation, 0);
    commit = comm.broadcast_string(commit, 0);
    // Rows that count never change, but the file may have been replaced by a larger one since rank
    // 0 has opened it, and its rows lie elsewhere.
    bool is_same = true;
    comm.agree([&] {
      if (comm.is_root()) return;
      state->read_structure(path);
      is_same = state->header.generation == generation;
    });
    if (comm.min(std::int64_t{is_same ? 1 : 0}) == 0) continue;
    comm.agree([&] {
      if (!comm.is_root()) state->take_commit(commit);
    });
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
