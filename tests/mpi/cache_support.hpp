// What the MPI tests of the cache share: a small cache of known contents, and a look at files.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/checked.hpp"
#include "cache/reader.hpp"
#include "cache/writer.hpp"
#include "support/mpi_test.hpp"

namespace powerprefill::cache_test {

namespace fs = std::filesystem;

using test::expect_agreed;
using test::expect_error;
using test::kAnyRank;

using Names = std::vector<std::string>;

inline CacheHeader small_header(DType dtype, bool saves_hidden = false) {
  CacheHeader header;
  header.capacity = 192;
  header.block_tokens = 16;
  header.num_layers = 3;
  header.num_kv_heads = 2;
  header.head_dim = 8;
  header.hidden = 24;
  header.vocabulary = 50;
  header.dtype = dtype;
  header.weights_fingerprint = "0123456789abcdef";
  header.config_fingerprint = "fedcba9876543210";
  header.schedule = R"({"block": 16, "layers": [{"pattern": "full"}]})";
  header.rope = R"({"theta": 10000.0})";
  header.compute = "f32";
  header.numerics = "test";
  header.writer = "cache_test";
  header.saves_hidden = saves_hidden;
  return header;
}

// Rows [first, first + count) of one layer's keys (part 0) or values (part 1): whole numbers in
// [-128, 128), exact in every dtype.
inline std::vector<std::byte> rows_of(const CacheHeader& header, std::int64_t layer, int part,
                                      std::int64_t first, std::int64_t count) {
  const std::int64_t width = header.num_kv_heads * header.head_dim;
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * header.row_bytes()));
  for (std::int64_t i = 0; i < count * width; ++i) {
    const std::int64_t place = ((2 * layer + part) * 4096 + first) * width + i;
    const std::uint32_t mixed = static_cast<std::uint32_t>(place) * 2654435761U;
    const float value = static_cast<float>(mixed >> 24) - 128.0F;
    const std::uint16_t half =
        header.dtype == DType::f16 ? f16_from_f32(value) : bf16_from_f32(value);
    const std::size_t size = bytes_of(header.dtype);
    const void* source = &value;
    if (size == 2) source = &half;
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * size, source, size);
  }
  return bytes;
}

inline std::vector<float> hidden_rows(const CacheHeader& header, std::int64_t first,
                                      std::int64_t count) {
  std::vector<float> rows(static_cast<std::size_t>(count * header.hidden));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = static_cast<float>(first * header.hidden) + static_cast<float>(i);
  }
  return rows;
}

inline std::vector<std::int32_t> token_ids(std::int64_t count) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * 31 % 50));
  return ids;
}

inline std::vector<float> values_at(std::int64_t count, std::int64_t tokens) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i + 1000 * tokens));
  return values;
}

inline void commit(CacheWriter& writer, std::int64_t tokens) {
  const CacheHeader& header = writer.header();
  writer.commit(tokens, token_ids(tokens), values_at(header.vocabulary, tokens),
                values_at(header.hidden, tokens));
}

// Collective: writes the rows of tokens [first, last), each rank every comm.size()-th block.
inline void write_rows(const mpi::Communicator& comm, CacheWriter& writer, std::int64_t first,
                       std::int64_t last) {
  const CacheHeader& header = writer.header();
  std::vector<std::vector<std::byte>> alive;
  std::vector<std::vector<float>> alive_hidden;
  std::int64_t ticket = 0;
  for (std::int64_t block = first / header.block_tokens; block * header.block_tokens < last;
       ++block) {
    if (block % comm.size() != comm.rank()) continue;
    const std::int64_t token = block * header.block_tokens;
    const std::int64_t count = std::min(header.block_tokens, last - token);
    for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
      alive.push_back(rows_of(header, layer, 0, token, count));
      alive.push_back(rows_of(header, layer, 1, token, count));
      ticket = writer.write_layer(layer, token, alive[alive.size() - 2], alive.back());
    }
    if (header.saves_hidden) {
      alive_hidden.push_back(hidden_rows(header, token, count));
      ticket = writer.write_hidden(token, alive_hidden.back());
    }
  }
  comm.agree([&] { writer.wait_for(ticket); });
  writer.wait_for(ticket);
}

// Collective: the same, and commits them.
inline void write_tokens(const mpi::Communicator& comm, CacheWriter& writer, std::int64_t first,
                         std::int64_t last) {
  write_rows(comm, writer, first, last);
  commit(writer, last);
}

// Checks everything a reader can see against what write_tokens() wrote.
inline void expect_contents(const CacheReader& reader, std::int64_t tokens) {
  const CacheHeader& header = reader.header();
  EXPECT_EQ(reader.tokens(), tokens);
  EXPECT_EQ(reader.token_ids(), token_ids(tokens));
  EXPECT_EQ(reader.logits(), values_at(header.vocabulary, tokens));
  EXPECT_EQ(reader.hidden(), values_at(header.hidden, tokens));
  for (std::int64_t block = 0; block < ceil_div(tokens, header.block_tokens); ++block) {
    const std::int64_t rows = reader.rows_of(block);
    std::vector<std::byte> data(static_cast<std::size_t>(rows * header.row_bytes()));
    for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
      for (int part = 0; part < 2; ++part) {
        reader.read_block(layer, part == 0 ? KvPart::key : KvPart::value, block, data);
        EXPECT_TRUE(data == rows_of(header, layer, part, block * header.block_tokens, rows))
            << fmt::format("layer {} part {} block {}", layer, part, block);
      }
    }
  }
}

inline std::vector<char> contents_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const fs::path& path, const std::vector<char>& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
}

// Where `needle` begins in `bytes`; it must be there.
inline std::size_t find_in(const std::vector<char>& bytes, const void* needle, std::size_t size) {
  const auto* first = static_cast<const char*>(needle);
  const auto at = std::search(bytes.begin(), bytes.end(), first, first + size);
  if (at == bytes.end()) throw std::runtime_error("the bytes looked for are not in the file");
  return static_cast<std::size_t>(at - bytes.begin());
}

inline Names names_in(const fs::path& folder) {
  Names names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace powerprefill::cache_test
