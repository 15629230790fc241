// How a CacheWriter comes to its file: a new one, one with a copied prefix, or one that goes on.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/checked.hpp"
#include "cache/format/attributes.hpp"
#include "cache/writer_state.hpp"
#include "files/file_lock.hpp"
#include "files/files.hpp"
#include "files/output_target.hpp"

namespace powerprefill {

namespace {

// Asked for before HDF5 begins: what it will make of the header is not known yet.
// Upper bound of the file's length, generous to HDF5's own structure.
std::int64_t largest_file(const CacheHeader& header) {
  constexpr std::int64_t structure = std::int64_t{1} << 20;
  constexpr std::int64_t each_dataset = std::int64_t{16} << 10;
  std::int64_t bytes = structure;
  for (const hdf5::DatasetSpec& spec : datasets_of(header)) bytes += spec.bytes() + each_dataset;
  return bytes;
}

// Makes HDF5's structure in `image`, an empty file that stays sparse and loses its name here, and
// returns the offsets of datasets_of(header).
std::vector<std::int64_t> make_structure(const FileHandle& image, const CacheHeader& header) {
  struct Unlink {  // HDF5 and `image` keep it open
    const std::filesystem::path& path;
    ~Unlink() { ::unlink(path.c_str()); }
  };
  hdf5::File file = [&] {
    const Unlink after_opening{image.path()};
    return hdf5::File::create(image.path());
  }();
  if (header.dtype == DType::bf16) file.name_type("/bfloat16", hdf5::Element::bf16);
  write_attributes(file, header);
  std::vector<std::int64_t> offsets;
  for (const hdf5::DatasetSpec& spec : datasets_of(header)) {
    offsets.push_back(file.make_dataset(spec));
  }
  file.finish();
  return offsets;
}

// Collective.
void require_equal_headers(const mpi::Communicator& comm, const CacheHeader& header) {
  // Each rank computes its rows' offsets from its own header.
  const auto hash = static_cast<std::int64_t>(header_hash(header));
  // Apart: the order in which the two sides of a comparison call others is the compiler's.
  const std::int64_t lowest = comm.min(hash);
  const std::int64_t highest = comm.max(hash);
  if (lowest != highest) {
    throw Error::agreed(ErrorCode::internal, "the ranks describe different cache files", 0);
  }
}

// The prefix that a new file begins with is checked by whoever decides on it; this guards the copy.
void require_copyable(const CacheHeader& header, const CachePrefix& prefix) {
  if (prefix.source == nullptr) return;
  const CacheHeader& from = prefix.source->header();
  const bool same_rows = from.block_tokens == header.block_tokens &&
                         from.num_layers == header.num_layers &&
                         from.row_bytes() == header.row_bytes() && from.dtype == header.dtype &&
                         from.hidden == header.hidden && from.saves_hidden == header.saves_hidden;
  const bool whole =
      prefix.tokens % header.block_tokens == 0 || prefix.tokens == prefix.source->tokens();
  if (same_rows && whole && prefix.tokens <= std::min(prefix.source->tokens(), header.capacity)) {
    return;
  }
  throw Error(ErrorCode::internal,
              fmt::format("cannot begin a cache file with {} tokens of another of {}",
                          prefix.tokens, prefix.source->tokens()));
}

// Collective; on rank 0 makes `pending`, for a file that `prefix` fits.
void start(const mpi::Communicator& comm, const std::filesystem::path& path,
           const CacheHeader& header, bool force, const CachePrefix& prefix,
           std::optional<PendingFile>& pending) {
  comm.agree([&] {
    const std::string problem = problem_of(header);
    if (!problem.empty()) throw Error(ErrorCode::internal, "cannot make a cache file: " + problem);
    require_copyable(header, prefix);
    if (comm.is_root()) pending.emplace(path, force);
  });
}

// Collective; `pending` is that of rank 0. Throws unless the file fits on its disk and all ranks
// see its folder.
void require_space_and_folder(const mpi::Communicator& comm, const CacheHeader& header,
                              std::optional<PendingFile>& pending) {
  comm.agree([&] {
    if (pending) pending->require_space(largest_file(header));
  });
  const std::filesystem::path probe =
      comm.broadcast_string(pending ? pending->probe().string() : "", 0);
  const std::string probe_text = comm.broadcast_string(pending ? pending->probe_text() : "", 0);
  comm.agree([&] { require_shared_folder(probe, probe_text); });
}

}  // namespace

void CacheWriter::require_room(const mpi::Communicator& comm, const std::filesystem::path& path,
                               const CacheHeader& header, bool force) {
  std::optional<PendingFile> pending;
  start(comm, path, header, force, {}, pending);
  require_space_and_folder(comm, header, pending);
}

void CacheWriter::State::build(const std::filesystem::path& path,
                               std::optional<PendingFile>& pending) {
  require_space_and_folder(comm, header, pending);
  header.generation = pending ? pending->generation() : 0;
  // On every rank, as a part of the header that all commits are hashed with.
  comm.broadcast_value(header.generation, 0);
  require_equal_headers(comm, header);

  const std::filesystem::path temporary =
      comm.broadcast_string(pending ? pending->temporary().string() : "", 0);

  std::vector<std::int64_t> offsets(datasets_of(header).size());
  comm.agree([&] {
    if (!pending) return;
    // Rank 0 alone: a metadata write that fails on one rank of a collective creation leaves the
    // others waiting. In memory: HDF5 crashes when a file is closed after a failed write.
    const FileHandle image = pending->structure_image();
    offsets = make_structure(image, header);
    pending->copy_structure(image);
  });
  comm.broadcast(std::as_writable_bytes(std::span(offsets)), 0);
  layout = CacheLayout(header, std::move(offsets));

  std::uint64_t inode = 0;
  comm.agree([&] {
    if (!pending) return;
    pending->reserve();
    file = pending->descriptor();
    // Tells the ranks of other nodes that theirs is this file, and not one of that name on a disk
    // of their own.
    inode = file.inode();
    table.emplace(header);
  });
  comm.broadcast_value(inode, 0);
  // Before the new name exists, so that a file that is replaced is lost only to a complete one.
  comm.agree([&] {
    if (!comm.is_root()) file = open_shared_file(temporary, inode, path);
    rows.emplace(file);
  });
}

// The ranks share the columns.
void CacheWriter::State::copy_prefix(const CachePrefix& prefix) {
  if (prefix.source == nullptr) return;
  comm.agree([&] {
    for (std::int64_t c = comm.rank(); c < prefix.source->columns(); c += comm.size()) {
      prefix.source->copy_rows(c, prefix.tokens, file, layout.column_rows(c, 0));
    }
    // The source's sums hold for the copy: copy_rows() has checked each block against them.
    if (comm.is_root()) enter_checksums(*prefix.source, prefix.tokens);
  });
}

void CacheWriter::State::enter_checksums(const CacheReader& source, std::int64_t tokens) {
  const std::int64_t blocks = ceil_div(tokens, header.block_tokens);
  if (blocks == 0) return;
  for (std::int64_t column = 0; column < source.columns(); ++column) {
    ChecksumRun run = {.column = column,
                       .first_block = 0,
                       .last_rows = tokens - (blocks - 1) * header.block_tokens,
                       .sums = {}};
    for (std::int64_t b = 0; b < blocks; ++b) run.sums.push_back(source.checksum(column, b));
    table->enter(run);
  }
}

void CacheWriter::State::publish(std::optional<PendingFile>& pending) {
  comm.agree([&] {
    if (!pending) return;
    pending->publish();
    warnings = pending->warnings();
  });
}

void CacheWriter::State::grow(const std::filesystem::path& path, std::int64_t capacity,
                              const CacheReader& from, std::optional<PendingFile>& pending) {
  header.capacity = capacity;
  header.version_minor = kCacheVersionMinor;  // the copy holds what this version knows
  build(path, pending);
  copy_prefix({&from, from.tokens()});
  // The marks of all rows: the origin that the commit is given is that of none.
  decoded = from.decoded();
  commit(
      from.tokens(),
      {.tokens = from.token_ids(), .decoded = {}, .logits = from.logits(), .hidden = from.hidden()},
      RowOrigin::prefill);
  publish(pending);
}

void CacheWriter::require_makeable(const std::filesystem::path& path) {
  require_writable_folder(PendingFile::target_of(path));
}

CacheWriter CacheWriter::create(const mpi::Communicator& comm, const std::filesystem::path& path,
                                const CacheHeader& header, bool force, const CachePrefix& prefix) {
  auto state = std::make_unique<State>(comm.dup());
  state->header = header;
  std::optional<PendingFile> pending;  // rank 0
  start(comm, path, header, force, prefix, pending);
  state->build(path, pending);
  state->copy_prefix(prefix);
  state->publish(pending);
  return CacheWriter(std::move(state));
}

namespace {

// By half, so that a file that grows token by token is copied once in a while only.
std::int64_t grown_capacity(const CacheHeader& header, std::int64_t needed) {
  return round_up(std::max(needed, header.capacity + header.capacity / 2), header.block_tokens);
}

// Locks the file that `path` names.
FileHandle lock_existing(const std::filesystem::path& path) {
  FileHandle file = FileHandle::open(path, O_RDWR, ErrorCode::storage);
  // A writer that grew the file may have renamed another over it since it was opened: then the lock
  // is that of a file that nobody finds any more.
  if (try_lock(file) == LockResult::busy || !file.is_named(path)) {
    throw Error(ErrorCode::cache,
                fmt::format("{} is in use by another writer; wait for it to end", path.string()));
  }
  return file;
}

}  // namespace

void CacheWriter::require_writable(const std::filesystem::path& path) {
  lock_existing(path);
}

CacheWriter CacheWriter::open(const mpi::Communicator& comm, const std::filesystem::path& path,
                              std::int64_t capacity) {
  auto state = std::make_unique<State>(comm.dup());
  std::optional<CacheReader> reader;   // opened under the lock
  std::optional<PendingFile> pending;  // rank 0, of a larger file
  std::int64_t room = 0;               // 0: enough
  std::uint64_t inode = 0;
  comm.agree([&] {
    if (!comm.is_root()) return;
    // Only to know the room: others may write until the lock is held, and what to go on with is
    // read after that.
    const CacheHeader header = CacheReader::open(path).header();
    if (header.capacity < capacity) {
      pending.emplace(path, true);
      room = grown_capacity(header, capacity);
      return;
    }
    const std::filesystem::path target = PendingFile::target_of(path);
    state->file = lock_existing(target);
    remove_stale_temporaries(target);
    inode = state->file.inode();
  });
  comm.broadcast_value(room, 0);
  comm.broadcast_value(inode, 0);
  comm.agree([&] {
    if (!comm.is_root() && room == 0) state->file = open_shared_file(path, inode, path);
  });
  reader = CacheReader::open_shared(comm, path);
  state->header = reader->header();
  state->sequence = reader->sequence();
  if (room > 0) {
    state->grow(path, room, *reader, pending);
    return CacheWriter(std::move(state));
  }
  comm.agree([&] {
    state->layout = reader->layout();
    state->committed = reader->tokens();
    if (comm.is_root()) {
      state->decoded = reader->decoded();
      state->table.emplace(state->header);
      state->enter_checksums(*reader, reader->tokens());
    }
    state->rows.emplace(state->file);
  });
  return CacheWriter(std::move(state));
}

}  // namespace powerprefill
