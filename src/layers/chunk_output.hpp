// Where the keys and values of a chunk go.
#pragma once

#include <cstdint>

#include "kv/layer_kv.hpp"
#include "layers/local_rows.hpp"

namespace powerprefill {

class ChunkOutput {
 public:
  virtual ~ChunkOutput() = default;
  // Takes a layer's rows: those of each run of `rows` from its first block's first row on, end to
  // end in `kv`. They may be read until wait() is called with the same `kv`.
  virtual void take(std::int64_t layer, const LocalRows& rows, KvBlocks& kv) = 0;
  virtual void wait(const KvBlocks& kv) = 0;
};

}  // namespace powerprefill
