// A chunk on its way into a cache file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>

#include "cache/writer.hpp"
#include "layers/chunk.hpp"

namespace powerprefill {

// Hands rows to the writer's background thread, and remembers which buffers it still reads.
class FileSink {
 public:
  explicit FileSink(CacheWriter& writer) : writer_(writer) {}

  // Runs the chunk and hands over its keys and values, and its final hidden states if the file
  // saves them. The chunk has to stay until the next commit. `goes_on`, and the result, as in
  // Chunk.
  bool run(Chunk& chunk, std::function<bool(std::int64_t)> goes_on);

 private:
  void write_hidden(const LocalRows& local, std::span<const float> rows);

  CacheWriter& writer_;
  std::map<const KvBlocks*, std::int64_t> tickets_;
};

}  // namespace powerprefill
