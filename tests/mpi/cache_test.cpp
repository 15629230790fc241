// The cache file, written by all ranks and read back; damage, and files that are no caches.
#include <atomic>
#include <random>
#include <thread>

#include "cache/format/layout.hpp"
#include "cache_support.hpp"
#include "hdf5/file.hpp"

namespace powerprefill::cache_test {
namespace {

using mpi::Communicator;

class CacheTest : public test::FolderTest {};

// A cache of 150 tokens in `folder`, written in two chunks.
fs::path make_cache(const Communicator& comm, const fs::path& folder, const CacheHeader& header) {
  const fs::path path = folder / "kv.h5";
  CacheWriter writer = CacheWriter::create(comm, path, header, true);
  write_tokens(comm, writer, 0, 64);
  write_tokens(comm, writer, 64, 150);
  return path;
}

// Rank 0 alone, then all go on.
void on_root(const Communicator& comm, const std::function<void()>& action) {
  comm.agree([&] {
    if (comm.is_root()) action();
  });
}

TEST_F(CacheTest, RoundTrip) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const CacheHeader header = small_header(dtype, dtype == DType::bf16);
    const fs::path path = folder / (std::string(name_of(dtype)) + ".h5");
    CacheWriter writer = CacheWriter::create(comm, path, header, false);
    EXPECT_NE(writer.header().generation, 0U);
    expect_error(ErrorCode::cache, "has no commit", [&] { CacheReader::open(path); });
    comm.barrier();
    write_tokens(comm, writer, 0, 64);
    CacheReader first = CacheReader::open(path);
    EXPECT_EQ(first.sequence(), 1U);
    expect_contents(first, 64);
    write_tokens(comm, writer, 64, 150);
    expect_contents(first, 64);
    const CacheReader second = CacheReader::open(path);
    EXPECT_EQ(second.sequence(), 2U);
    expect_contents(second, 150);
    EXPECT_EQ(second.header().schedule, header.schedule);
    EXPECT_EQ(second.header().dtype, dtype);
    EXPECT_EQ(second.header().generation, writer.header().generation);
    EXPECT_EQ(second.rows_of(9), 6);
    EXPECT_EQ(second.rows_of(10), 0);
    const auto verification = second.verify(comm);
    EXPECT_EQ(verification.damage, Names());
    const std::int64_t hidden_bytes = header.saves_hidden ? 150 * header.hidden * 4 : 0;
    EXPECT_EQ(verification.bytes, 150 * 6 * header.row_bytes() + hidden_bytes);
    EXPECT_EQ(comm.sum(writer.bytes_written()), verification.bytes);
  }
  comm.barrier();
  EXPECT_EQ(names_in(folder), Names({"bf16.h5", "f16.h5", "f32.h5"}));
}

TEST_F(CacheTest, ExistingOutputs) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = folder / "kv.h5";
  const auto create = [&](const fs::path& at, bool force) {
    return [&, at, force] { CacheWriter::create(comm, at, header, force); };
  };
  expect_agreed(comm, ErrorCode::usage, kAnyRank, "is a folder", create(folder, true));
  expect_agreed(comm, ErrorCode::storage, kAnyRank, "does not exist",
                create(folder / "no" / "kv.h5", true));
  {
    CacheWriter writer = CacheWriter::create(comm, path, header, true);
    write_tokens(comm, writer, 0, 64);
    expect_agreed(comm, ErrorCode::usage, kAnyRank, "add --force", create(path, false));
    expect_agreed(comm, ErrorCode::cache, kAnyRank, "in use by another writer", create(path, true));
    expect_contents(CacheReader::open(path), 64);
    comm.barrier();
  }
  const CacheReader old = CacheReader::open(path);
  CacheWriter writer = CacheWriter::create(comm, path, header, true);
  expect_contents(old, 64);
  expect_error(ErrorCode::cache, "has no commit", [&] { CacheReader::open(path); });
  comm.barrier();
  EXPECT_EQ(names_in(folder), Names({"kv.h5"}));
}

TEST_F(CacheTest, StaleFilesGo) {
  const std::string dead = ".kv.h5.00112233445566aa";
  on_root(comm, [&] {
    write_file(folder / (dead + ".tmp"), {'x'});
    write_file(folder / (dead + ".probe.tmp"), {'x'});
    write_file(folder / ".kv.h5.other.tmp", {'x'});
    write_file(folder / ".kv.h5x.00112233445566aa.tmp", {'x'});
  });
  { CacheWriter::create(comm, folder / "kv.h5", small_header(DType::f32), false); }
  comm.barrier();
  EXPECT_EQ(names_in(folder), Names({".kv.h5.other.tmp", ".kv.h5x.00112233445566aa.tmp", "kv.h5"}));
}

TEST_F(CacheTest, MisuseIsRefused) {
  const CacheHeader header = small_header(DType::f32);
  CacheWriter writer = CacheWriter::create(comm, folder / "kv.h5", header, false);
  const auto rows = rows_of(header, 0, 0, 0, 16);
  const auto write = [&](std::int64_t layer, std::int64_t token) {
    return [&, layer, token] { writer.write_layer(layer, token, rows, rows); };
  };
  expect_error(ErrorCode::internal, "layer 3", write(3, 0));
  expect_error(ErrorCode::internal, "misplaced", write(0, 8));
  expect_error(ErrorCode::storage, "room for 192 tokens", write(0, 192));
  expect_error(ErrorCode::internal, "no room for hidden", [&] { writer.write_hidden(0, {}); });
  if (comm.is_root()) writer.wait_for(writer.write_layer(0, 0, rows, rows));
  expect_agreed(comm, ErrorCode::internal, kAnyRank, "layer 1 key block 0 has 0 rows",
                [&] { commit(writer, 16); });
  expect_agreed(comm, ErrorCode::internal, kAnyRank, "layer 1 key block 0 has 0 rows",
                [&] { commit(writer, 16); });
}

// Rows that were discarded are as if they had not been written: other ranks may write them anew.
TEST_F(CacheTest, DiscardedRows) {
  const CacheHeader header = small_header(DType::f32);
  CacheWriter writer = CacheWriter::create(comm, folder / "kv.h5", header, false);
  const auto wrong = rows_of(header, 1, 1, 64, 16);
  const int last = comm.size() - 1;  // whose sums would be entered behind those of rank 0
  if (comm.rank() == last) {
    for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
      writer.write_layer(layer, 0, wrong, wrong);
    }
  }
  writer.discard();
  comm.barrier();
  const auto key = [&](std::int64_t layer) { return rows_of(header, layer, 0, 0, 16); };
  for (std::int64_t layer = 0; comm.is_root() && layer < header.num_layers; ++layer) {
    const auto rows = key(layer);
    writer.wait_for(writer.write_layer(layer, 0, rows, rows));
  }
  commit(writer, 16);
  const CacheReader reader = CacheReader::open_shared(comm, folder / "kv.h5");
  EXPECT_EQ(reader.verify(comm).damage, Names()) << "checksums of discarded rows were entered";
}

TEST_F(CacheTest, DamageIsFound) {
  const CacheHeader header = small_header(DType::bf16, true);
  const fs::path path = make_cache(comm, folder, header);
  const std::vector<char> good = contents_of(path);
  const std::uint64_t generation = CacheReader::open(path).header().generation;
  comm.barrier();
  const auto flip = [&](std::size_t at) {
    on_root(comm, [&] {
      auto bad = good;
      bad.at(at) = static_cast<char>(bad.at(at) ^ 0x40);
      write_file(path, bad);
    });
  };
  const auto refused = [&](const std::string& text) {
    expect_error(ErrorCode::cache, text, [&] { CacheReader::open(path); });
    comm.barrier();
  };

  const auto rows = rows_of(header, 1, 1, 32, 16);
  const auto hidden = hidden_rows(header, 144, 1);
  const std::size_t at_rows = find_in(good, rows.data(), rows.size());
  flip(at_rows + 77);
  {
    const CacheReader reader = CacheReader::open(path);
    std::vector<std::byte> data(rows.size());
    expect_error(ErrorCode::cache, "layer 1 value block 2: checksum differs",
                 [&] { reader.read_block(1, KvPart::value, 2, data); });
    reader.read_block(1, KvPart::value, 3, data);
    EXPECT_EQ(reader.verify(comm).damage, Names({"layer 1 value block 2: checksum differs"}));
  }
  flip(find_in(good, hidden.data(), hidden.size() * 4));
  EXPECT_EQ(CacheReader::open(path).verify(comm).damage,
            Names({"hidden block 9: checksum differs"}));

  const auto ids = token_ids(150);
  flip(find_in(good, ids.data(), ids.size() * 4) + 500);
  refused("differ from what was committed");
  const auto logits = values_at(header.vocabulary, 150);
  flip(find_in(good, logits.data(), logits.size() * 4));
  refused("differ from what was committed");
  flip(find_in(good, header.schedule.data(), header.schedule.size()) + 3);
  refused("cannot read the attribute");
  flip(find_in(good, "powerprefill-kv", 15));
  refused("cannot read the attribute");
  // The newest record itself: the commit before it must not count again in silence.
  const std::uint64_t head[] = {generation, 2};
  const std::size_t at_record = find_in(good, head, sizeof(head)) - 8;
  flip(at_record + 38);
  refused("the record of its commit 2");
  // A record that was taken back: the commit before counts.
  on_root(comm, [&] {
    auto bad = good;
    std::fill_n(bad.begin() + static_cast<std::ptrdiff_t>(at_record), 64, '\0');
    write_file(path, bad);
  });
  expect_contents(CacheReader::open(path), 64);
  comm.barrier();
}

TEST_F(CacheTest, ForeignFiles) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = make_cache(comm, folder, header);
  if (!comm.is_root()) return;
  const std::vector<char> good = contents_of(path);
  const auto refused = [&](const std::string& text) {
    expect_error(ErrorCode::cache, text, [&] { CacheReader::open(path); });
  };
  for (std::size_t keep : {good.size() - 1, good.size() / 2, std::size_t{4096}, std::size_t{100}}) {
    write_file(path, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(keep)});
    refused("truncated");
  }
  write_file(path, {});
  refused("no HDF5 file");
  write_file(path, std::vector<char>(100000, 'x'));
  refused("no HDF5 file");
  fs::remove(path);
  expect_error(ErrorCode::input, "cannot open", [&] { CacheReader::open(path); });
  expect_error(ErrorCode::cache, "is not a file", [&] { CacheReader::open(folder); });
  hdf5::File::create(path).finish();
  refused("lacks the attribute format");
}

// One byte of the datasets changed: never unnoticed where it matters.
TEST_F(CacheTest, RandomDamage) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = make_cache(comm, folder, header);
  if (!comm.is_root()) return;
  const std::vector<char> good = contents_of(path);
  std::vector<std::size_t> places;
  {
    const hdf5::File file = hdf5::File::open(path);
    for (const hdf5::DatasetSpec& spec : datasets_of(header)) {
      const std::int64_t offset = file.dataset(spec.name).offset;
      for (std::int64_t i = 0; i < spec.bytes(); ++i) {
        places.push_back(static_cast<std::size_t>(offset + i));
      }
    }
  }
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    auto bad = good;
    bad[places[random() % places.size()]] = static_cast<char>(random());
    write_file(path, bad);
    try {
      expect_contents(CacheReader::open(path), 150);
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ErrorCode::cache)) << error.what();
    }
  }
}

TEST_F(CacheTest, FoldersThatAreNotShared) {
  if (comm.size() == 1) GTEST_SKIP() << "one rank sees its own folder";
  const fs::path before = fs::current_path();
  const fs::path own = folder / std::to_string(comm.rank());
  fs::create_directory(own);
  fs::current_path(own);
  expect_agreed(comm, ErrorCode::launch, kAnyRank, "not all ranks see the output folder",
                [&] { CacheWriter::create(comm, "kv.h5", small_header(DType::f32), false); });
  fs::current_path(before);
  comm.barrier();
  EXPECT_EQ(names_in(own), Names());
}

// A reader beside the writer sees one commit or another, always whole.
TEST_F(CacheTest, ReadingWhileWriting) {
  CacheHeader header = small_header(DType::f32);
  header.capacity = 16 * 80;
  const fs::path path = folder / "kv.h5";
  CacheWriter writer = CacheWriter::create(comm, path, header, false);
  write_tokens(comm, writer, 0, 8);
  std::atomic<bool> done{false};
  std::string problem;
  std::thread reading;
  if (comm.is_root()) {
    reading = std::thread([&] {
      try {
        for (std::int64_t last = 0; !done && !HasFailure();) {
          const CacheReader reader = CacheReader::open(path);
          EXPECT_GE(reader.tokens(), last) << "a commit went back";
          last = reader.tokens();
          expect_contents(reader, last);
        }
      } catch (const std::exception& error) {
        problem = error.what();
      }
    });
  }
  // The tail block is written again and again, as an append does.
  for (std::int64_t tokens = 10; tokens < 16 * 80; tokens += 10) {
    write_tokens(comm, writer, (tokens - 10) / 16 * 16, tokens);
  }
  done = true;
  if (reading.joinable()) reading.join();
  EXPECT_EQ(problem, "");
}

}  // namespace
}  // namespace powerprefill::cache_test
