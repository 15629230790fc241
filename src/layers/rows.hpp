// The tokens that a transformer takes through its layers, and who computes what of them.
//
// Prefill and decoding differ in two things alone: in rows, and in where keys come from. This is
// the first: many rows of one rank (tiled_rows.hpp), or one row that all ranks share
// (shared_row.hpp). The second is layer_attention.hpp; what happens to the rows is transformer.hpp,
// for both.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/part.hpp"
#include "math/linear/linear.hpp"
#include "partition/index.hpp"

namespace powerprefill {

// A token of this rank.
struct Row {
  std::int64_t position;  // in the prompt
  std::int64_t index;     // among the rank's rows when its blocks lie end to end
};

// A linear layer whose outputs are heads: `sections` one after the other (keys, then values), each
// with so many outputs for every key/value head.
struct HeadProjection {
  Linear linear;
  std::int64_t kv_heads;
  std::int64_t outputs_per_kv_head;
  std::int64_t sections = 1;
};

// Holds hidden states, (rows, E), and computes in waves of rows, so that working memory does not
// grow with the prompt.
class Rows {
 public:
  virtual ~Rows() = default;

  // Positions of the rank's rows, run by run.
  virtual std::vector<TokenRange> positions() const = 0;
  // Of `count` key/value heads those that this rank computes.
  virtual Part kv_heads(std::int64_t count) const = 0;

  // Sets the hidden states: fill(position, hidden) with `hidden` (E). Any thread.
  virtual void set_hidden(
      const std::function<void(std::int64_t position, std::span<float> hidden)>& fill) = 0;
  // The hidden state of the token at `position`, which this rank has, (E).
  virtual std::span<const float> hidden(std::int64_t position) const = 0;

  // body() for one wave after the other; what follows is about the wave.
  virtual void for_each_wave(const std::function<void()>& body) = 0;
  // RMSNorm of the hidden states, which the products of the wave start from.
  virtual void normalise(std::span<const float> weight, float epsilon) = 0;
  // Projects the normed states, and calls body(row, projected) with the row's outputs; of other
  // ranks' heads they are undefined. Any thread.
  using ProjectedBody = std::function<void(const Row& row, const float* projected)>;
  virtual void project(const HeadProjection& projection, const ProjectedBody& body) = 0;
  // hidden += W x, where read(row, x) fills the heads of kv_heads() in a row's x, (inputs). Any
  // thread.
  using HeadReader = std::function<void(const Row& row, float* x)>;
  virtual void add_heads(const Linear& linear, std::int64_t kv_heads, const HeadReader& read) = 0;
  // hidden += down(activation(gate normed) (up normed))
  virtual void add_feed_forward(const GatedLinear& gated, const Linear& down) = 0;
};

}  // namespace powerprefill
