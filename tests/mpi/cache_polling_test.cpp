// A reader that opens the file again and again while a writer appends to it, one token a commit.
// The last rank is the reader; the others are the writer, over a communicator of their own.
#include <unistd.h>

#include <optional>
#include <system_error>

#include "cache_support.hpp"

namespace powerprefill::cache_test {
namespace {

using mpi::Communicator;

class CachePollingTest : public test::FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    if (comm.size() < 2) GTEST_SKIP() << "a reader and a writer are two ranks";
  }
};

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
  if (MPI_Comm_split(comm.native(), reads ? 1 : 0, comm.rank(), &part) != MPI_SUCCESS) {
    throw std::runtime_error("MPI_Comm_split failed");
  }
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
void expect_commit(const CacheReader& reader, std::int64_t first_block) {
  const CacheHeader& header = reader.header();
  const std::int64_t tokens = tokens_of(reader.sequence());
  SCOPED_TRACE(testing::Message() << "commit " << reader.sequence());
  EXPECT_EQ(reader.tokens(), tokens);
  EXPECT_EQ(reader.token_ids(), token_ids(tokens));
  EXPECT_EQ(reader.logits(), values_at(header.vocabulary, tokens));
  EXPECT_EQ(reader.hidden(), values_at(header.hidden, tokens));
  std::vector<std::pair<std::int64_t, std::int64_t>> decoded;
  if (tokens > kFirst) decoded.emplace_back(kFirst, tokens);
  EXPECT_EQ(reader.decoded_ranges(), decoded);
  for (std::int64_t block = first_block; reader.rows_of(block) > 0; ++block) {
    const std::int64_t first = block * header.block_tokens;
    const std::int64_t rows = reader.rows_of(block);
    std::vector<std::byte> data(static_cast<std::size_t>(rows * header.row_bytes()));
    for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
      for (int part = 0; part < 2; ++part) {
        reader.read_block(layer, part == 0 ? KvPart::key : KvPart::value, block, data);
        EXPECT_TRUE(data == rows_of(header, layer, part, first, rows))
            << fmt::format("layer {} part {} block {}", layer, part, block);
      }
    }
    std::vector<float> hidden(static_cast<std::size_t>(rows * header.hidden));
    reader.read_hidden(block, hidden);
    EXPECT_EQ(hidden, hidden_rows(header, first, rows)) << "block " << block;
  }
}

// Reads until the last of `commits`; returns what it did, for people.
std::string poll(const fs::path& path, std::uint64_t commits) {
  std::optional<CacheReader> before;
  std::int64_t reads = 0;
  std::int64_t seen = 0;
  while (!testing::Test::HasFailure() && (!before || before->sequence() < commits)) {
    CacheReader reader = CacheReader::open(path);
    const std::uint64_t last = before ? before->sequence() : 0;
    EXPECT_GE(reader.sequence(), last) << "the commit went back";
    // What grows is at the end; the rest is looked at now and then.
    const bool whole = reads % 100 == 0 || reader.sequence() == commits;
    const std::int64_t last_block = (reader.tokens() - 1) / reader.header().block_tokens;
    expect_commit(reader, whole ? 0 : std::max<std::int64_t>(0, last_block - 1));
    // The state of the look before stays readable, whatever has been appended since.
    if (before) expect_commit(*before, (before->tokens() - 1) / before->header().block_tokens);
    ++reads;
    if (reader.sequence() > last) ++seen;
    before = std::move(reader);
  }
  EXPECT_TRUE(before && before->sequence() == commits) << "not all commits, or more than were made";
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
  std::int64_t seen = 0;
  comm.barrier();
  if (!reads) {
    for (std::int64_t tokens = kFirst + 1; tokens <= tokens_of(commits); ++tokens) {
      append(own, *writer, tokens);
    }
  } else {
    for (std::int64_t last = 0; std::cmp_less(last, commits); ++seen) {
      const CacheReader reader = CacheReader::open_shared(own, path);
      const auto sequence = static_cast<std::int64_t>(reader.sequence());
      last = own.max(sequence);  // all ranks go on alike
      EXPECT_EQ(own.min(sequence), last) << "the ranks see different commits";
      const std::int64_t last_block = (reader.tokens() - 1) / reader.header().block_tokens;
      expect_commit(reader, std::max<std::int64_t>(0, last_block - 1));
      EXPECT_EQ(reader.verify(own).damage, Names());
    }
  }
  seen = comm.max(seen);
  if (comm.is_root()) std::printf("%ld joint reads\n", static_cast<long>(seen));
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
  std::string done;
  if (reads) {
    done = poll(path, commits);
  } else {
    for (std::int64_t tokens = kFirst + 1; tokens <= last; ++tokens) append(own, *writer, tokens);
  }
  done = comm.broadcast_string(done, comm.size() - 1);
  if (comm.is_root()) std::printf("%s: %s\n", folder.c_str(), done.c_str());
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

TEST_F(CachePollingTest, Fast) {
  // Several ranks that wait for each other are slow where they share cores.
  const std::uint64_t commits = comm.size() == 2 ? 10'000 : 1'000;
  in_memory(comm, folder, [&](const fs::path& scratch, bool usable) {
    append_and_poll(comm, scratch, usable ? commits : 300);
  });
}

TEST_F(CachePollingTest, Together) {
  in_memory(comm, folder, [&](const fs::path& scratch, bool) { open_together(comm, scratch); });
}

// On the file system of the build.
TEST_F(CachePollingTest, Synced) {
  append_and_poll(comm, folder, 300);
}

}  // namespace
}  // namespace powerprefill::cache_test
