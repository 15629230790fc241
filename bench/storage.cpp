// The cache writer and verify beside plain pwrite and pread of the same bytes, in the same folder.
// Usage: bench_storage FOLDER [MiB]     (one rank; mpirun for more)
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "cache/reader.hpp"
#include "cache/writer.hpp"
#include "files/files.hpp"
#include "harness.hpp"
#include "mpi/session.hpp"

namespace powerprefill::bench {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLayers = 24;

CacheHeader header_of(std::int64_t tokens) {
  CacheHeader header;
  header.capacity = tokens;
  header.block_tokens = 256;
  header.num_layers = kLayers;
  header.num_kv_heads = 2;
  header.head_dim = 64;
  header.hidden = 896;
  header.vocabulary = 1000;
  header.schedule = "{}";
  header.rope = "{}";
  header.compute = "f32";
  header.numerics = "bench";
  header.writer = "bench";
  return header;
}

// Seconds of the slowest rank.
double timed(const mpi::Communicator& world, const std::function<void()>& body) {
  world.barrier();
  const double begin = seconds_now();
  body();
  return world.max(seconds_now() - begin);
}

void run(const mpi::Communicator& world, const fs::path& folder, std::int64_t mib) {
  const std::int64_t row_bytes = header_of(256).row_bytes();
  const std::int64_t each = (mib << 20) / (2 * kLayers * row_bytes) / world.size() / 256 * 256;
  const std::int64_t tokens = each * world.size();
  const std::int64_t bytes = tokens * row_bytes * 2 * kLayers;
  const std::vector<float> values = random_values(each * row_bytes / 4, 5);
  const auto rows = std::as_bytes(std::span(values));
  const fs::path cache = folder / "bench.h5";
  const fs::path plain = folder / "bench.raw";
  std::vector<double> ratios_write;
  std::vector<double> ratios_read;
  std::vector<double> write_rates;
  std::vector<double> read_rates;
  for (int round = 0; round < 5; ++round) {
    const double ours = timed(world, [&] {
      CacheWriter writer = CacheWriter::create(world, cache, header_of(tokens), true);
      for (std::int64_t layer = 0; layer < kLayers; ++layer) {
        writer.write_layer(layer, world.rank() * each, rows, rows);
      }
      writer.commit(tokens, std::vector<std::int32_t>(static_cast<std::size_t>(tokens)),
                    std::vector<float>(1000), std::vector<float>(896));
    });
    const double theirs = timed(world, [&] {
      world.agree([&] {
        if (!world.is_root()) return;
        const FileHandle file =
            FileHandle::open(plain, O_RDWR | O_CREAT | O_TRUNC, ErrorCode::storage);
        require(::fallocate(file.fd(), 0, 0, bytes) == 0, "fallocate");
      });
      const FileHandle file = FileHandle::open(plain, O_RDWR, ErrorCode::storage);
      for (std::int64_t part = 0; part < 2 * kLayers; ++part) {
        file.write_at(rows, (part * tokens + world.rank() * each) * row_bytes);
      }
      file.sync();
    });
    const CacheReader reader = CacheReader::open(cache);
    bool intact = true;
    const double verify = timed(world, [&] { intact = reader.verify(world).damage.empty(); });
    require(intact, "verify");
    const double pread = timed(world, [&] {
      const FileHandle file = FileHandle::open(plain, O_RDONLY, ErrorCode::storage);
      std::vector<std::byte> block(static_cast<std::size_t>(256 * row_bytes));
      for (std::int64_t at = world.rank() * 256 * row_bytes; at < bytes;
           at += world.size() * 256 * row_bytes) {
        file.read_at(block, at, ErrorCode::storage);
      }
    });
    ratios_write.push_back(theirs / ours);
    ratios_read.push_back(pread / verify);
    write_rates.push_back(static_cast<double>(bytes) / ours / 1e6);
    read_rates.push_back(static_cast<double>(bytes) / verify / 1e6);
  }
  if (!world.is_root()) return;
  const std::string name = fmt::format("{} ranks {} MiB", world.size(), bytes >> 20);
  csv("storage", name, "create, write and commit", median(write_rates), "MB/s");
  csv("storage", name, "of plain pwrite and fsync", median(ratios_write), "ratio");
  csv("storage", name, "verify", median(read_rates), "MB/s");
  csv("storage", name, "of plain pread", median(ratios_read), "ratio");
  fs::remove(cache);
  fs::remove(plain);
}

}  // namespace
}  // namespace powerprefill::bench

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  auto session = powerprefill::mpi::Session::start();
  powerprefill::bench::run(session.world(), argv[1], argc > 2 ? std::atoll(argv[2]) : 1024);
}
