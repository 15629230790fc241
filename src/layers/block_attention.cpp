#include "layers/block_attention.hpp"

#include <algorithm>
#include <limits>

#include "math/rows/convert.hpp"

namespace powerprefill {

BlockAttention::BlockAttention(const Partition& partition, int rank, const AttentionShape& shape,
                               const KvShape& kv_shape, int threads)
    : partition_(partition), shape_(shape), kv_shape_(kv_shape) {
  for (const BlockRange& range : partition.ranges_of(rank)) {
    for (std::int64_t b = range.first.value; b < range.end(); ++b) blocks_.push_back({b});
  }
  const bool native = shape.compute == Compute::bf16;
  rows_ = native ? round_up(shape.rows(), kBf16Rows) : shape.rows();
  columns_ = native ? round_up(shape.head_dim, kBf16Columns) : shape.head_dim;
  const std::int64_t stacks = kv_shape.kv_heads * std::ssize(blocks_);
  query_ = AlignedBuffer<std::byte>(
      checked_mul(stacks * rows_, columns_ * operand_bytes(shape.compute)));
  out_ = AlignedBuffer<float>(checked_mul(stacks * rows_, columns_));
  maximum_ = AlignedBuffer<float>(stacks * rows_);
  sum_ = AlignedBuffer<float>(stacks * rows_);
  const bool as_it_is = kv_shape.dtype == DType::f32 && shape.compute == Compute::f32;
  const std::int64_t widened = native || as_it_is ? 0 : kv_shape.block * kv_shape.head_dim;
  for (int thread = 0; thread < threads; ++thread) {
    Scratch& scratch = scratch_.emplace_back();
    scratch.key = AlignedBuffer<float>(widened);
    scratch.value = AlignedBuffer<float>(widened);
    if (native) {
      scratch.bf16.emplace(shape);
    } else {
      scratch.f32.emplace(shape);
    }
  }
}

void BlockAttention::begin(ThreadPool& pool, const BlockSelection& selection) {
  group_kv_heads_ = kv_shape_.kv_heads / selection.groups();
  cursors_.clear();
  for (std::int64_t group = 0; group < selection.groups(); ++group) {
    for (std::int64_t b = 0; b < std::ssize(blocks_); ++b) {
      cursors_.push_back({group, b, selection.keys(group, b)});
    }
  }
  unfinished_ = std::ssize(cursors_);
  const auto stacks = static_cast<std::int64_t>(sum_.size()) / rows_;
  pool.run(stacks, [&](std::int64_t at, int) {
    std::fill_n(maximum_.data() + at * rows_, rows_, -std::numeric_limits<float>::infinity());
    std::fill_n(sum_.data() + at * rows_, rows_, 0.0F);
    std::fill_n(out_.data() + at * rows_ * columns_, rows_ * columns_, 0.0F);
  });
}

void BlockAttention::advance(ThreadPool& pool, const FindBlock& find,
                             const std::function<void()>& between) {
  // What each block may merge now is fixed first: blocks that arrive meanwhile wait for the next
  // call.
  struct Step {
    std::size_t cursor;
    std::vector<KvBlockView> views;
  };
  std::vector<Step> steps;
  for (std::size_t c = 0; c < cursors_.size(); ++c) {
    const Cursor& cursor = cursors_[c];
    Step step{c, {}};
    for (std::size_t k = cursor.merged; k < cursor.keys.size(); ++k) {
      const KvBlockView* view = find(cursor.keys[k]);
      if (view == nullptr) break;
      step.views.push_back(*view);
    }
    if (!step.views.empty()) steps.push_back(std::move(step));
  }
  // The longest first, so that no thread is left with one when the others are done.
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.views.size() > b.views.size(); });
  const std::int64_t heads = group_kv_heads_;
  pool.run(
      static_cast<std::int64_t>(steps.size()) * heads,
      [&](std::int64_t task, int thread) {
        const Step& step = steps[static_cast<std::size_t>(task / heads)];
        const Cursor& cursor = cursors_[step.cursor];
        const std::int64_t kv_head = cursor.group * heads + task % heads;
        for (std::size_t k = 0; k < step.views.size(); ++k) {
          merge(kv_head, cursor.local_block, cursor.keys[cursor.merged + k], step.views[k],
                scratch_[static_cast<std::size_t>(thread)]);
        }
      },
      between);
  for (const Step& step : steps) {
    Cursor& cursor = cursors_[step.cursor];
    const GlobalBlock block = blocks_[static_cast<std::size_t>(cursor.local_block)];
    const std::int64_t past = partition_.first_new_token(block) - partition_.first_token(block);
    const std::int64_t queries = partition_.end_token(block) - partition_.first_new_token(block);
    for (std::size_t k = 0; k < step.views.size(); ++k) {
      const bool diagonal = cursor.keys[cursor.merged + k] == block.value;
      token_pairs_ += heads * (diagonal ? queries * past + queries * (queries + 1) / 2
                                        : queries * kv_shape_.block);
    }
    pairs_ += heads * std::ssize(step.views);
    cursor.merged += step.views.size();
    if (cursor.merged == cursor.keys.size()) --unfinished_;
  }
}

std::int64_t BlockAttention::highest_pending() const {
  std::int64_t highest = -1;
  for (const Cursor& cursor : cursors_) {
    if (cursor.merged < cursor.keys.size()) {
      highest = std::max(highest, cursor.keys[cursor.merged]);
    }
  }
  return highest;
}

MatrixView BlockAttention::f32_view(const std::byte* block, std::int64_t kv_head,
                                    AlignedBuffer<float>& scratch) {
  const std::int64_t d = kv_shape_.head_dim;
  const auto element = static_cast<std::int64_t>(bytes_of(kv_shape_.dtype));
  const std::byte* head = block + kv_head * d * element;
  if (scratch.empty()) {
    return {reinterpret_cast<const float*>(head), kv_shape_.row_elements()};
  }
  for (std::int64_t t = 0; t < kv_shape_.block; ++t) {
    float* row = scratch.data() + t * d;
    widen(kv_shape_.dtype, head + t * kv_shape_.row_bytes(), {row, static_cast<std::size_t>(d)});
    store_operands(shape_.compute, row, d, row);
  }
  return {scratch.data(), d};
}

void BlockAttention::merge(std::int64_t kv_head, std::int64_t local_block, std::int64_t key,
                           const KvBlockView& view, Scratch& scratch) {
  const std::int64_t at = stack(kv_head, local_block) * rows_;
  const std::byte* query = query_.data() + at * columns_ * operand_bytes(shape_.compute);
  float* out = out_.data() + at * columns_;
  const std::int64_t present =
      partition_.end_token(GlobalBlock{key}) - partition_.first_token(GlobalBlock{key});
  const bool diagonal = key == blocks_[static_cast<std::size_t>(local_block)].value;
  if (scratch.bf16) {
    const std::int64_t offset =
        kv_head * kv_shape_.head_dim * static_cast<std::int64_t>(bytes_of(kv_shape_.dtype));
    const auto rows = [&](const std::byte* block) {
      return HeadRows{kv_shape_.dtype, block + offset, kv_shape_.row_bytes(), present};
    };
    merge_key_block_bf16(bf16_isa(), shape_,
                         {.query = reinterpret_cast<const std::uint16_t*>(query),
                          .maximum = maximum_.data() + at,
                          .sum = sum_.data() + at,
                          .out = out},
                         {rows(view.key), rows(view.value)}, diagonal, *scratch.bf16);
    return;
  }
  merge_key_block(shape_,
                  {.query = reinterpret_cast<const float*>(query),
                   .maximum = maximum_.data() + at,
                   .sum = sum_.data() + at,
                   .out = out},
                  f32_view(view.key, kv_head, scratch.key),
                  f32_view(view.value, kv_head, scratch.value), present, diagonal, *scratch.f32);
}

void BlockAttention::read_result(std::int64_t head, std::int64_t local_block, std::int64_t token,
                                 float* out) const {
  const std::int64_t at = row_of(head, local_block, token);
  const float* row = out_.data() + at * columns_;
  const float sum = sum_[static_cast<std::size_t>(at)];
  for (std::int64_t i = 0; i < shape_.head_dim; ++i) out[i] = row[i] / sum;
}

std::int64_t BlockAttention::bytes() const {
  std::int64_t bytes =
      static_cast<std::int64_t>(query_.bytes() + out_.bytes() + maximum_.bytes() + sum_.bytes());
  for (const Scratch& scratch : scratch_) {
    bytes += (scratch.bf16 ? scratch.bf16->bytes() : 0) + (scratch.f32 ? scratch.f32->bytes() : 0) +
             static_cast<std::int64_t>(scratch.key.bytes() + scratch.value.bytes());
  }
  return bytes;
}

}  // namespace powerprefill
