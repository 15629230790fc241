#include "layers/chunk.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/checked.hpp"
#include "layers/row_parallel.hpp"
#include "plan/chunks.hpp"

namespace powerprefill {

Chunk::Chunk(const ChunkContext& context, std::span<const std::int32_t> tokens, std::int64_t begin,
             PastSource past)
    : context_(context),
      tokens_(tokens),
      past_(std::move(past)),
      partition_(chunk_partition({begin, static_cast<std::int64_t>(tokens.size())},
                                 context.schedule.block, context.model.world().size(),
                                 context.zigzag)),
      rows_({.recipe = context.model.config.recipe,
             .compute = context.model.compute,
             .partition = partition_,
             .rank = context.model.world().rank(),
             .pool = *context.model.pool,
             .zones = context.zones,
             .poll = [this] { attention_.poll(); }}),
      attention_(context_, partition_, rows_.local(), past_),
      transformer_(context.model.config.recipe, context.model.weights, *context.model.pool, rows_,
                   context.zones) {}

bool Chunk::run(ChunkOutput* output, ChunkAttention::GoesOn goes_on) {
  attention_.start(output, std::move(goes_on));
  transformer_.embed(tokens_);
  return transformer_.run(attention_);
}

Chunk::Last Chunk::last() {
  const mpi::Communicator& world = context_.model.world();
  const ZoneTimer timer(context_.zones, Zone::logits);
  Last last;
  last.hidden.resize(static_cast<std::size_t>(context_.model.config.recipe.hidden));
  last.logits.resize(static_cast<std::size_t>(context_.model.config.recipe.vocabulary));
  const int owner = partition_.owner(GlobalBlock{partition_.end_block() - 1});
  if (world.rank() == owner) {
    transformer_.final_hidden(partition_.tokens().end - 1, last.hidden);
  }
  world.broadcast(std::as_writable_bytes(std::span(last.hidden)), owner);
  apply_linear_row_split(world, *context_.model.pool, context_.model.weights.output_head(),
                         last.hidden.data(), last.logits);
  world.agree([&] {
    if (std::all_of(last.logits.begin(), last.logits.end(),
                    [](float v) { return std::isfinite(v); }))
      return;
    throw Error(ErrorCode::input,
                "the logits after the prompt are not finite numbers; check the checkpoint");
  });
  return last;
}

std::span<const float> Chunk::hidden_rows() {
  const std::int64_t e = context_.model.config.recipe.hidden;
  std::int64_t count = 0;
  for (const RowRun& run : rows().runs()) count += run.end_token - run.first_block_token();
  hidden_rows_ = AlignedBuffer<float>(checked_mul(count, e));
  std::int64_t at = 0;
  for (const RowRun& run : rows().runs()) {
    const std::int64_t old_rows = run.begin_token - run.first_block_token();
    if (old_rows > 0) {
      past_.read_hidden(run.blocks.first.value,
                        hidden_rows_.span().subspan(static_cast<std::size_t>(at * e),
                                                    static_cast<std::size_t>(old_rows * e)));
      at += old_rows;
    }
    for (std::int64_t p = run.begin_token; p < run.end_token; ++p, ++at) {
      transformer_.final_hidden(p, hidden_rows_.span().subspan(static_cast<std::size_t>(at * e),
                                                               static_cast<std::size_t>(e)));
    }
  }
  return hidden_rows_.span();
}

std::int64_t Chunk::bytes() const {
  return rows_.bytes() + attention_.bytes() + transformer_.bytes() +
         static_cast<std::int64_t>(hidden_rows_.bytes());
}

}  // namespace powerprefill
