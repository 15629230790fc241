// A reader that opens the file again and again while a writer appends to it, one token a commit.
// The last rank is the reader; the others are the writer, over a communicator of their own.
#include <unistd.h>

#include <optional>
#include <system_error>

#include "cache_support.hpp"

namespace powerprefill::cache_test {
namespace {

using mpi::Communicator;

// So many tokens are there after the first commit, and one more after each that follows.
constexpr std::int64_t kFirst = 5;

std::int64_t tokens_of(std::uint64_t sequence) {
  return kFirst - 1 + static_cast<std::int64_t>(sequence);
}

CacheHeader header_for(std::int64_t tokens) {
  CacheHeader header = small_header(DType::bf16, true);
  header.capacity = round_up(tokens, header.block_tokens);
  return header;
}

// The ranks that write, or the one that reads.
Communicator split(const Communicator& comm, bool reads) {
  MPI_Comm part = MPI_COMM_NULL;
  require(MPI_Comm_split(comm.native(), reads ? 1 : 0, comm.rank(), &part) == MPI_SUCCESS,
          "MPI_Comm_split failed");
  Communicator own = Communicator::duplicate(part);
  MPI_Comm_free(&part);
  return own;
}

// Appends as decoding does: the rows of the last block are written again from its start.
void append(const Communicator& comm, CacheWriter& writer, std::int64_t tokens) {
  const CacheHeader& header = writer.header();
  write_rows(comm, writer, (tokens - 1) / header.block_tokens * header.block_tokens, tokens);
  writer.commit(tokens, token_ids(tokens), values_at(header.vocabulary, tokens),
                values_at(header.hidden, tokens), RowOrigin::decoded);
}

// What can be seen is one commit, whole: all of it but the rows before `first_block`.
void require_commit(const CacheReader& reader, std::int64_t first_block) {
  const CacheHeader& header = reader.header();
  const std::int64_t tokens = tokens_of(reader.sequence());
  require(reader.tokens() == tokens, fmt::format("commit {} has {} tokens, not {}",
                                                 reader.sequence(), reader.tokens(), tokens));
  require(reader.token_ids() == token_ids(tokens), "token ids differ");
  require(reader.logits() == values_at(header.vocabulary, tokens), "logits differ");
  require(reader.hidden() == values_at(header.hidden, tokens), "hidden differs");
  std::vector<std::pair<std::int64_t, std::int64_t>> decoded;
  if (tokens > kFirst) decoded.emplace_back(kFirst, tokens);
  require(reader.decoded_ranges() == decoded, "the marks of decoded rows differ");
  for (std::int64_t block = first_block; reader.rows_of(block) > 0; ++block) {
    const std::int64_t first = block * header.block_tokens;
    const std::int64_t rows = reader.rows_of(block);
    std::vector<std::byte> data(static_cast<std::size_t>(rows * header.row_bytes()));
    for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
      for (int part = 0; part < 2; ++part) {
        reader.read_block(layer, part == 0 ? KvPart::key : KvPart::value, block, data);
        require(data == rows_of(header, layer, part, first, rows),
                fmt::format("layer {} part {} block {} differs", layer, part, block));
      }
    }
    std::vector<float> hidden(static_cast<std::size_t>(rows * header.hidden));
    reader.read_hidden(block, hidden);
    require(hidden == hidden_rows(header, first, rows),
            fmt::format("hidden block {} differs", block));
  }
}

// Reads until the last of `commits`; returns what it did, for people.
std::string poll(const fs::path& path, std::uint64_t commits) {
  std::optional<CacheReader> before;
  std::int64_t reads = 0;
  std::int64_t seen = 0;
  while (!before || before->sequence() < commits) {
    CacheReader reader = CacheReader::open(path);
    const std::uint64_t last = before ? before->sequence() : 0;
    require(reader.sequence() >= last,
            fmt::format("commit {} was read after commit {}", reader.sequence(), last));
    // What grows is at the end; the rest is looked at now and then.
    const bool whole = reads % 100 == 0 || reader.sequence() == commits;
    const std::int64_t last_block = (reader.tokens() - 1) / reader.header().block_tokens;
    require_commit(reader, whole ? 0 : std::max<std::int64_t>(0, last_block - 1));
    // The state of the look before stays readable, whatever has been appended since.
    if (before) require_commit(*before, (before->tokens() - 1) / before->header().block_tokens);
    ++reads;
    if (reader.sequence() > last) ++seen;
    before = std::move(reader);
  }
  require(before->sequence() == commits, "there are more commits than were made");
  return fmt::format("{} reads saw {} of {} commits", reads, seen, commits);
}

// Several readers of one job, which open the file together while rank 0 appends: all see the same
// commit, however late each of them comes.
void open_together(const Communicator& comm, const fs::path& folder) {
  const fs::path path = folder / "together.h5";
  const bool reads = comm.rank() > 0;
  const Communicator own = split(comm, reads);
  constexpr std::uint64_t commits = 2000;
  std::optional<CacheWriter> writer;
  if (!reads) {
    writer.emplace(CacheWriter::create(own, path, header_for(tokens_of(commits)), false));
    write_tokens(own, *writer, 0, kFirst);
  }
  comm.barrier();
  if (!reads) {
    for (std::int64_t tokens = kFirst + 1; tokens <= tokens_of(commits); ++tokens) {
      append(own, *writer, tokens);
    }
  } else {
    std::int64_t seen = 0;
    for (std::int64_t last = 0; std::cmp_less(last, commits); ++seen) {
      const CacheReader reader = CacheReader::open_shared(own, path);
      last = static_cast<std::int64_t>(reader.sequence());
      require(own.min(last) == own.max(last), "the ranks see different commits");
      const std::int64_t last_block = (reader.tokens() - 1) / reader.header().block_tokens;
      require_commit(reader, std::max<std::int64_t>(0, last_block - 1));
      require(reader.verify(own).damage.empty(), "damage was found");
    }
    if (own.is_root()) std::printf("%ld joint reads\n", static_cast<long>(seen));
  }
  comm.barrier();
}

void append_and_poll(const Communicator& comm, const fs::path& folder, std::uint64_t commits) {
  const fs::path path = folder / "kv.h5";
  const bool reads = comm.rank() == comm.size() - 1;
  const Communicator own = split(comm, reads);
  const std::int64_t last = tokens_of(commits);
  std::optional<CacheWriter> writer;
  if (!reads) {
    writer.emplace(CacheWriter::create(own, path, header_for(last), false));
    write_tokens(own, *writer, 0, kFirst);
  }
  comm.barrier();
  if (reads) {
    std::printf("%s: %s\n", folder.c_str(), poll(path, commits).c_str());
  } else {
    for (std::int64_t tokens = kFirst + 1; tokens <= last; ++tokens) append(own, *writer, tokens);
  }
  comm.barrier();
}

// body(folder, usable) with a folder in memory, where a sync takes no time, or `folder` itself.
template <typename Body>
void in_memory(const Communicator& comm, const fs::path& folder, const Body& body) {
  struct Folder {
    fs::path path;
    ~Folder() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  };
  const fs::path memory = "/dev/shm";
  const bool usable = fs::is_directory(memory) && ::access(memory.c_str(), W_OK) == 0;
  const std::string name = comm.broadcast_string(fmt::format("cache-polling-{}", ::getpid()), 0);
  const Folder scratch{(usable ? memory : folder) / name};
  if (comm.is_root()) fs::create_directory(scratch.path);
  comm.barrier();
  body(scratch.path, usable);
}

void fast(const Communicator& comm, const fs::path& folder) {
  // Several ranks that wait for each other are slow where they share cores.
  const std::uint64_t commits = comm.size() == 2 ? 10'000 : 1'000;
  in_memory(comm, folder, [&](const fs::path& scratch, bool usable) {
    append_and_poll(comm, scratch, usable ? commits : 300);
  });
}

void together(const Communicator& comm, const fs::path& folder) {
  in_memory(comm, folder, [&](const fs::path& scratch, bool) { open_together(comm, scratch); });
}

// On the file system of the build.
void synced(const Communicator& comm, const fs::path& folder) {
  append_and_poll(comm, folder, 300);
}

}  // namespace
}  // namespace powerprefill::cache_test

int main(int argc, char** argv) {
  using namespace powerprefill::cache_test;
  return run_cases(argc, argv, {{"fast", fast}, {"together", together}, {"synced", synced}});
}
