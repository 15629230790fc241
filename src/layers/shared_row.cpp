#include "layers/shared_row.hpp"

#include "layers/row_parallel.hpp"
#include "math/rows/row_ops.hpp"

namespace powerprefill {

SharedRow::SharedRow(const ModelRecipe& recipe, const mpi::Communicator& comm, ThreadPool& pool)
    : comm_(comm),
      pool_(pool),
      hidden_(static_cast<std::size_t>(recipe.hidden)),
      normed_(hidden_.size()),
      update_(hidden_.size()) {}

void SharedRow::set_hidden(
    const std::function<void(std::int64_t position, std::span<float> hidden)>& fill) {
  fill(position_, hidden_);
  normed_by_ = nullptr;
}

std::span<const float> SharedRow::hidden(std::int64_t) const {
  return hidden_;
}

void SharedRow::normalise(std::span<const float> weight, float epsilon) {
  // Keys and queries start from the same.
  if (normed_by_ == weight.data()) return;
  rms_norm(hidden_.data(), weight.data(), epsilon, std::ssize(hidden_), normed_.data());
  normed_by_ = weight.data();
}

void SharedRow::project(const HeadProjection& projection, const ProjectedBody& body) {
  const Part mine = kv_heads(projection.kv_heads);
  const std::int64_t width = projection.outputs_per_kv_head;
  projected_.resize(static_cast<std::size_t>(projection.linear.outputs));
  for (std::int64_t section = 0; section < projection.sections; ++section) {
    const std::int64_t first = section * projection.kv_heads;
    // Own heads alone: their keys and values are needed on no other rank.
    apply_linear_row(pool_, projection.linear, normed_.data(), (first + mine.begin) * width,
                     (first + mine.end) * width, projected_.data());
  }
  body({position_, 0}, projected_.data());
}

void SharedRow::add_heads(const Linear& linear, std::int64_t kv_heads, const HeadReader& read) {
  inputs_.resize(static_cast<std::size_t>(linear.inputs));
  read({position_, 0}, inputs_.data());
  gather_parts(comm_, kv_heads, linear.inputs / kv_heads, inputs_);
  add_product(linear, inputs_.data());
}

void SharedRow::add_feed_forward(const GatedLinear& gated, const Linear& down) {
  const Part mine = part_of(gated.outputs, comm_.rank(), comm_.size());
  inputs_.resize(static_cast<std::size_t>(gated.outputs));
  up_.resize(inputs_.size());
  apply_linear_row(pool_, {gated.gate, {}, gated.inputs, gated.outputs}, normed_.data(), mine.begin,
                   mine.end, inputs_.data());
  apply_linear_row(pool_, {gated.up, {}, gated.inputs, gated.outputs}, normed_.data(), mine.begin,
                   mine.end, up_.data());
  activate_multiply(gated.activation, inputs_.data() + mine.begin, up_.data() + mine.begin,
                    mine.count());
  gather_parts(comm_, gated.outputs, 1, inputs_);
  add_product(down, inputs_.data());
}

void SharedRow::add_product(const Linear& linear, const float* x) {
  apply_linear_row_split(comm_, pool_, linear, x, update_);
  add(hidden_.data(), update_.data(), std::ssize(hidden_));
  normed_by_ = nullptr;
}

}  // namespace powerprefill
