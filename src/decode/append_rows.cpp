#include "decode/append_rows.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "layers/row_parallel.hpp"

namespace powerprefill {

namespace {

// The bytes of some heads of consecutive rows, and back.
struct HeadColumns {
  std::int64_t row_bytes;
  std::int64_t begin;
  std::int64_t end;

  std::string take(const std::byte* rows, std::int64_t count) const {
    std::string bytes;
    for (std::int64_t r = 0; r < count; ++r) {
      bytes.append(reinterpret_cast<const char*>(rows + r * row_bytes + begin),
                   static_cast<std::size_t>(end - begin));
    }
    return bytes;
  }
  void put(std::string_view bytes, std::byte* rows) const {
    const auto width = static_cast<std::size_t>(end - begin);
    for (std::int64_t r = 0; !bytes.empty(); ++r, bytes.remove_prefix(width)) {
      std::memcpy(rows + r * row_bytes + begin, bytes.data(), width);
    }
  }
};

HeadColumns columns_of(const KvShape& shape, int rank, int ranks) {
  const Part heads = part_of(shape.kv_heads, rank, ranks);
  const std::int64_t head_bytes = shape.row_bytes() / shape.kv_heads;
  return {shape.row_bytes(), heads.begin * head_bytes, heads.end * head_bytes};
}

}  // namespace

void append_decoded_rows(const mpi::Communicator& world, const PastBlocks& past,
                         std::int64_t tokens, CacheWriter& writer) {
  const KvShape& shape = past.shape();
  const std::int64_t old_rows = past.file_tokens() % shape.block;
  const std::int64_t first = past.file_tokens() - old_rows;
  const std::int64_t new_rows = tokens - past.file_tokens();
  const auto old_bytes = static_cast<std::size_t>(old_rows * shape.row_bytes());
  const auto bytes = static_cast<std::size_t>((tokens - first) * shape.row_bytes());
  const HeadColumns mine = columns_of(shape, world.rank(), world.size());
  std::vector<std::byte> rows[2];
  for (std::int64_t layer = 0; layer < writer.header().num_layers; ++layer) {
    for (const int part : {0, 1}) {
      const KvBlockView view = past.new_row(layer, 0);
      const std::vector<std::string> heads =
          world.gather_strings(mine.take(part == 0 ? view.key : view.value, new_rows), 0);
      if (!world.is_root()) continue;
      rows[part].resize(bytes);
      for (int r = 0; r < world.size(); ++r) {
        columns_of(shape, r, world.size())
            .put(heads[static_cast<std::size_t>(r)], rows[part].data() + old_bytes);
      }
    }
    world.agree([&] {
      if (!world.is_root()) return;
      if (old_rows > 0) {
        const std::int64_t block = first / shape.block;
        past.reader().read_block(layer, KvPart::key, block, std::span(rows[0]).first(old_bytes));
        past.reader().read_block(layer, KvPart::value, block, std::span(rows[1]).first(old_bytes));
      }
      writer.wait_for(writer.write_layer(layer, first, rows[0], rows[1]));
    });
  }
}

void append_hidden_rows(const PastBlocks& past, std::span<const float> rows, CacheWriter& writer) {
  const auto e = static_cast<std::size_t>(writer.header().hidden);
  const std::int64_t old_rows = past.file_tokens() % past.shape().block;
  std::vector<float> all(static_cast<std::size_t>(old_rows) * e);
  if (old_rows > 0) past.reader().read_hidden(past.file_tokens() / past.shape().block, all);
  all.insert(all.end(), rows.begin(), rows.end());
  writer.wait_for(writer.write_hidden(past.file_tokens() - old_rows, all));
}

}  // namespace powerprefill
