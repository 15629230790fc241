// A chunk on its way into a cache file.
#pragma once

#include <cstdint>
#include <map>

#include "cache/writer.hpp"
#include "layers/chunk.hpp"

namespace powerprefill {

// Hands rows to the writer's background thread, and remembers which buffers it still reads. The
// chunk has to stay until the next commit.
class CacheOutput : public ChunkOutput {
 public:
  explicit CacheOutput(CacheWriter& writer) : writer_(writer) {}

  void take(std::int64_t layer, const LocalRows& rows, KvBlocks& kv) override;
  void wait(const KvBlocks& kv) override;
  // When the chunk has taken all layers: its final hidden states, if the file saves them.
  void finish(Chunk& chunk);

 private:
  CacheWriter& writer_;
  std::map<const KvBlocks*, std::int64_t> tickets_;
};

}  // namespace powerprefill
