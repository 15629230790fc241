// Where a chunk finds the rows of the tokens before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "cache/reader.hpp"

namespace powerprefill {

// Empty functions: there is no past.
struct PastSource {
  // The first rows of a block, (rows, G, D) in the cache's dtype, as many as `data` holds. Any
  // thread may call. Throws Error(cache) for a damaged block.
  std::function<void(std::int64_t layer, KvPart part, std::int64_t block,
                     std::span<std::byte> data)>
      read_block = {};
  // Likewise final hidden states, (rows, E); only where the cache saves them.
  std::function<void(std::int64_t block, std::span<float> data)> read_hidden = {};
};

// The committed rows of a file, which outlives the source.
inline PastSource past_in(const CacheReader& file) {
  return {.read_block =
              [&file](std::int64_t layer, KvPart part, std::int64_t block,
                      std::span<std::byte> data) { file.read_block(layer, part, block, data); },
          .read_hidden = [&file](std::int64_t block,
                                 std::span<float> data) { file.read_hidden(block, data); }};
}

}  // namespace powerprefill
