#include "score/token_scores.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "base/checked.hpp"
#include "math/linear/linear.hpp"

namespace powerprefill {

namespace {

// The softmax over a row of logits that come in slices, as far as the token's score needs it.
struct RowScore {
  double largest = -std::numeric_limits<double>::infinity();
  double sum = 0;     // of exp(logit - largest)
  double target = 0;  // logit of the token that came next
  std::int32_t best = 0;

  void add(std::span<const float> logits, std::int64_t first, std::int64_t next) {
    const auto top = std::max_element(logits.begin(), logits.end());
    if (*top > largest) {
      sum *= std::exp(largest - *top);
      largest = *top;
      best = static_cast<std::int32_t>(first + (top - logits.begin()));
    }
    for (const float logit : logits) sum += std::exp(logit - largest);
    if (next >= first && next < first + static_cast<std::int64_t>(logits.size())) {
      target = logits[static_cast<std::size_t>(next - first)];
    }
  }
  TokenScore score() const { return {static_cast<float>(target - largest - std::log(sum)), best}; }
};

}  // namespace

std::vector<TokenScore> score_next_tokens(const Weights& weights, ThreadPool& pool,
                                          const Chunk& chunk,
                                          std::span<const std::int32_t> tokens) {
  const Linear head = weights.output_head();
  const LocalRows& local = chunk.rows();
  const std::int64_t e = head.inputs;
  const std::int64_t wave = std::min<std::int64_t>(local.tiles(), 2 * pool.threads());
  AlignedBuffer<float> normed(checked_mul(wave * kTileTokens, e));
  AlignedBuffer<float> logits(checked_mul(wave * kTileTokens, kLogitSlice));
  std::vector<TokenScore> scores;
  for (std::int64_t tile = 0; tile < local.tiles(); tile += wave) {
    const std::int64_t tiles = std::min(wave, local.tiles() - tile);
    std::vector<std::int64_t> positions;  // by owned row of the wave
    std::vector<std::int64_t> rows;       // of the wave's buffers
    for (std::int64_t t = tile; t < tile + tiles; ++t) {
      const LocalRows::TileTokens owned = local.tokens_of_tile(t);
      for (std::int64_t row = owned.begin_row; row < owned.end_row; ++row) {
        positions.push_back(owned.first_position + row - owned.begin_row);
        rows.push_back(row - tile * kTileTokens);
      }
    }
    std::vector<RowScore> sums(rows.size());
    const auto for_each_row = [&](const auto& body) {
      pool.run(static_cast<std::int64_t>(rows.size()),
               [&](std::int64_t i, int) { body(static_cast<std::size_t>(i)); });
    };
    for_each_row([&](std::size_t i) {
      chunk.transformer().final_hidden(positions[i],
                                       normed.span().subspan(static_cast<std::size_t>(rows[i] * e),
                                                             static_cast<std::size_t>(e)));
    });
    for (std::int64_t first = 0; first < head.outputs; first += kLogitSlice) {
      const std::int64_t count = std::min(kLogitSlice, head.outputs - first);
      apply_linear(pool, outputs_of(head, first, count), tiles, {normed.data(), e},
                   {logits.data(), count}, false);
      for_each_row([&](std::size_t i) {
        const auto after = static_cast<std::size_t>(positions[i] + 1);
        sums[i].add({logits.data() + rows[i] * count, static_cast<std::size_t>(count)}, first,
                    after < tokens.size() ? tokens[after] : -1);
      });
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (positions[i] + 1 == static_cast<std::int64_t>(tokens.size())) continue;
      scores.push_back(sums[i].score());
      if (std::isfinite(scores.back().log_probability)) continue;
      throw Error(ErrorCode::input, fmt::format("the logits after token {} are not finite numbers; "
                                                "check the checkpoint",
                                                positions[i]));
    }
  }
  return scores;
}

}  // namespace powerprefill
