// The keys and values of a chunk on their way into a cache file.
#pragma once

#include <cstdint>
#include <map>

#include "cache/writer.hpp"
#include "engine/chunk.hpp"

namespace powerprefill {

// Hands rows to the writer's background thread, and remembers which buffers it still reads.
class FileSink {
 public:
  explicit FileSink(CacheWriter& writer) : writer_(writer) {}

  // The sink of one chunk; `goes_on` as in Chunk::Sink. Refers to this object.
  Chunk::Sink sink(std::function<bool(std::int64_t)> goes_on);
  // Writes the final hidden states of the chunk's tokens; `rows` is Chunk::hidden_rows(), unchanged
  // until the next commit.
  void write_hidden(const LocalRows& local, std::span<const float> rows);

 private:
  CacheWriter& writer_;
  std::map<const KvBlocks*, std::int64_t> tickets_;
};

}  // namespace powerprefill
