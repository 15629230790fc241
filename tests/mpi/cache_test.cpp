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

void round_trip(const Communicator& comm, const fs::path& folder) {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const CacheHeader header = small_header(dtype, dtype == DType::bf16);
    const fs::path path = folder / (std::string(name_of(dtype)) + ".h5");
    CacheWriter writer = CacheWriter::create(comm, path, header, false);
    require(writer.header().generation != 0, "no generation was chosen");
    require_error(ErrorCode::cache, "has no commit", [&] { CacheReader::open(path); });
    comm.barrier();
    write_tokens(comm, writer, 0, 64);
    CacheReader first = CacheReader::open(path);
    require(first.sequence() == 1, "the first commit is not number 1");
    require_contents(first, 64);
    write_tokens(comm, writer, 64, 150);
    require_contents(first, 64);
    const CacheReader second = CacheReader::open(path);
    require(second.sequence() == 2, "the second commit is not number 2");
    require_contents(second, 150);
    require(second.header().schedule == header.schedule && second.header().dtype == dtype &&
                second.header().generation == writer.header().generation,
            "the header differs");
    require(second.rows_of(9) == 6 && second.rows_of(10) == 0, "rows_of is wrong");
    const auto verification = second.verify(comm);
    require(verification.damage.empty(), "damage in a good file");
    const std::int64_t hidden_bytes = header.saves_hidden ? 150 * header.hidden * 4 : 0;
    require(verification.bytes == 150 * 6 * header.row_bytes() + hidden_bytes,
            "verify read another number of bytes");
    require(comm.sum(writer.bytes_written()) == verification.bytes,
            "bytes_written is not what was written");
  }
  comm.barrier();
  require(names_in(folder) == std::vector<std::string>{"bf16.h5", "f16.h5", "f32.h5"},
          "temporary files are left");
}

void existing_outputs(const Communicator& comm, const fs::path& folder) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = folder / "kv.h5";
  const auto create = [&](const fs::path& at, bool force) {
    return [&comm, &header, at, force] { CacheWriter::create(comm, at, header, force); };
  };
  require_agreed(comm, ErrorCode::usage, "is a folder", create(folder, true));
  require_agreed(comm, ErrorCode::storage, "does not exist", create(folder / "no" / "kv.h5", true));
  {
    CacheWriter writer = CacheWriter::create(comm, path, header, true);
    write_tokens(comm, writer, 0, 64);
    require_agreed(comm, ErrorCode::usage, "add --force", create(path, false));
    require_agreed(comm, ErrorCode::cache, "in use by another writer", create(path, true));
    require_contents(CacheReader::open(path), 64);
    comm.barrier();
  }
  const CacheReader old = CacheReader::open(path);
  CacheWriter writer = CacheWriter::create(comm, path, header, true);
  require_contents(old, 64);
  require_error(ErrorCode::cache, "has no commit", [&] { CacheReader::open(path); });
  comm.barrier();
  require(names_in(folder) == std::vector<std::string>{"kv.h5"}, "temporary files are left");
}

void stale_files_go(const Communicator& comm, const fs::path& folder) {
  const std::string dead = ".kv.h5.00112233445566aa";
  on_root(comm, [&] {
    write_file(folder / (dead + ".tmp"), {'x'});
    write_file(folder / (dead + ".probe.tmp"), {'x'});
    write_file(folder / ".kv.h5.other.tmp", {'x'});
    write_file(folder / ".kv.h5x.00112233445566aa.tmp", {'x'});
  });
  { CacheWriter::create(comm, folder / "kv.h5", small_header(DType::f32), false); }
  comm.barrier();
  require(names_in(folder) ==
              std::vector<std::string>{".kv.h5.other.tmp", ".kv.h5x.00112233445566aa.tmp", "kv.h5"},
          "the wrong temporary files were removed");
}

void misuse_is_refused(const Communicator& comm, const fs::path& folder) {
  const CacheHeader header = small_header(DType::f32);
  CacheWriter writer = CacheWriter::create(comm, folder / "kv.h5", header, false);
  const auto rows = rows_of(header, 0, 0, 0, 16);
  const auto write = [&](std::int64_t layer, std::int64_t token) {
    return [&, layer, token] { writer.write_layer(layer, token, rows, rows); };
  };
  require_error(ErrorCode::internal, "layer 3", write(3, 0));
  require_error(ErrorCode::internal, "misplaced", write(0, 8));
  require_error(ErrorCode::storage, "room for 192 tokens", write(0, 192));
  require_error(ErrorCode::internal, "no room for hidden", [&] { writer.write_hidden(0, {}); });
  if (comm.is_root()) writer.wait_for(writer.write_layer(0, 0, rows, rows));
  require_agreed(comm, ErrorCode::internal, "layer 1 key block 0 has 0 rows",
                 [&] { commit(writer, 16); });
  require_agreed(comm, ErrorCode::internal, "layer 1 key block 0 has 0 rows",
                 [&] { commit(writer, 16); });
}

// Rows that were discarded are as if they had not been written: other ranks may write them anew.
void discarded_rows(const Communicator& comm, const fs::path& folder) {
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
  require(reader.verify(comm).damage.empty(), "checksums of discarded rows were entered");
}

void damage_is_found(const Communicator& comm, const fs::path& folder) {
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
    require_error(ErrorCode::cache, text, [&] { CacheReader::open(path); });
    comm.barrier();
  };

  const auto rows = rows_of(header, 1, 1, 32, 16);
  const auto hidden = hidden_rows(header, 144, 1);
  const std::size_t at_rows = find_in(good, rows.data(), rows.size());
  flip(at_rows + 77);
  {
    const CacheReader reader = CacheReader::open(path);
    std::vector<std::byte> data(rows.size());
    require_error(ErrorCode::cache, "layer 1 value block 2: checksum differs",
                  [&] { reader.read_block(1, KvPart::value, 2, data); });
    reader.read_block(1, KvPart::value, 3, data);
    require(reader.verify(comm).damage ==
                std::vector<std::string>{"layer 1 value block 2: checksum differs"},
            "verify does not list the damage");
  }
  flip(find_in(good, hidden.data(), hidden.size() * 4));
  require(CacheReader::open(path).verify(comm).damage ==
              std::vector<std::string>{"hidden block 9: checksum differs"},
          "verify does not list the damage of /hidden_all");

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
  require_contents(CacheReader::open(path), 64);
  comm.barrier();
}

void foreign_files(const Communicator& comm, const fs::path& folder) {
  const CacheHeader header = small_header(DType::f32);
  const fs::path path = make_cache(comm, folder, header);
  if (!comm.is_root()) return;
  const std::vector<char> good = contents_of(path);
  const auto refused = [&](const std::string& text) {
    require_error(ErrorCode::cache, text, [&] { CacheReader::open(path); });
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
  require_error(ErrorCode::input, "cannot open", [&] { CacheReader::open(path); });
  require_error(ErrorCode::cache, "is not a file", [&] { CacheReader::open(folder); });
  hdf5::File::create(path).finish();
  refused("lacks the attribute format");
}

// One byte of the datasets changed: never unnoticed where it matters.
void random_damage(const Communicator& comm, const fs::path& folder) {
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
      require_contents(CacheReader::open(path), 150);
    } catch (const Error& error) {
      require(error.code() == ErrorCode::cache, error.what());
    }
  }
}

void folders_that_are_not_shared(const Communicator& comm, const fs::path& folder) {
  if (comm.size() == 1) return;
  const fs::path before = fs::current_path();
  const fs::path own = folder / std::to_string(comm.rank());
  fs::create_directory(own);
  fs::current_path(own);
  require_agreed(comm, ErrorCode::launch, "not all ranks see the output folder",
                 [&] { CacheWriter::create(comm, "kv.h5", small_header(DType::f32), false); });
  fs::current_path(before);
  comm.barrier();
  require(names_in(own).empty(), "files are left");
}

// A reader beside the writer sees one commit or another, always whole.
void reading_while_writing(const Communicator& comm, const fs::path& folder) {
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
        for (std::int64_t last = 0; !done;) {
          const CacheReader reader = CacheReader::open(path);
          require(reader.tokens() >= last, "a commit went back");
          last = reader.tokens();
          require_contents(reader, last);
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
  require(problem.empty(), problem);
}

}  // namespace
}  // namespace powerprefill::cache_test

int main(int argc, char** argv) {
  using namespace powerprefill::cache_test;
  return run_cases(argc, argv,
                   {{"round_trip", round_trip},
                    {"existing_outputs", existing_outputs},
                    {"stale_files_go", stale_files_go},
                    {"misuse_is_refused", misuse_is_refused},
                    {"discarded_rows", discarded_rows},
                    {"damage_is_found", damage_is_found},
                    {"foreign_files", foreign_files},
                    {"random_damage", random_damage},
                    {"folders_that_are_not_shared", folders_that_are_not_shared},
                    {"reading_while_writing", reading_while_writing}});
}
