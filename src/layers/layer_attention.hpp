// Where keys come from: the second thing in which prefill and decoding differ, see rows.hpp.
#pragma once

#include <cstdint>
#include <functional>

#include "kv/layer_kv.hpp"
#include "layers/rows.hpp"

namespace powerprefill {

// Attention of a Rows in one layer after the other. A layer is take_keys(), all rows' queries,
// attend(), all rows' results, finish().
class LayerAttention {
 public:
  virtual ~LayerAttention() = default;

  // What keys and values are stored as.
  virtual DType kv_dtype() const = 0;

  // Begins a layer: fill() writes the keys and values of all rows of this rank to where key_value()
  // says, or throws; then they may travel.
  virtual void take_keys(std::int64_t layer, const std::function<void()>& fill) = 0;
  // Where the keys and the values of a row go, (G, D) each. Any thread.
  virtual KvSpan key_value(const Row& row) = 0;
  // The query of a head, (D) of f32, after norm and RoPE. Any thread.
  virtual void set_query(std::int64_t head, const Row& row, const float* query) = 0;
  virtual void attend(std::int64_t layer) = 0;
  // What attend() has made of a query, (D). Any thread.
  virtual void read_result(std::int64_t head, const Row& row, float* out) const = 0;
  // False drops the run: the same answer on every rank.
  virtual bool finish(std::int64_t layer) = 0;
};

}  // namespace powerprefill
